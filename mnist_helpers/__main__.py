"""`python -m mnist_helpers` runs the command line."""

from mnist_helpers.cli import run

if __name__ == "__main__":
    run()
