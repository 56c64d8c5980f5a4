"""`python -m node ...` is `trimaran ...`, where the script is not on the PATH.

Proved by: tests/node/test_cli.py
"""

from node.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
