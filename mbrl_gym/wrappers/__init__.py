"""Gymnasium wrappers around agents and world models."""

from mbrl_gym.wrappers.show_plans import Decision, PlanningAgent, ShowPlans

__all__ = ["Decision", "PlanningAgent", "ShowPlans"]
