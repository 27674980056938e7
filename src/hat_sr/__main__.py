"""`python -m hat_sr` is the command `hat-sr`."""

from hat_sr.cli import main

if __name__ == "__main__":
    main()
