"""`python -m sodakit` is `sodakit`."""

from sodakit.cli import main

if __name__ == "__main__":
    main()
