"""`python -m mbrl_gym` is the `mbrl-gym` command."""

from mbrl_gym.agents.cli import main

if __name__ == "__main__":
    main()
