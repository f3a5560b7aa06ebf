"""`python -m narthex` and the `narthex` command."""

from narthex.cli.program import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
