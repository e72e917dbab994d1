"""``python -m effcompile`` is the command ``effcompile``."""

from effcompile.cli.main import main

if __name__ == "__main__":
    main()
