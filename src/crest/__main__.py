"""`python -m crest` is the command `crest`."""

from crest.cli import main

if __name__ == "__main__":
    main()
