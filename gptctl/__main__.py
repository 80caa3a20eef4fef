"""`python -m gptctl` is `gptctl`."""

from gptctl.cli.main import main

if __name__ == "__main__":
    main()
