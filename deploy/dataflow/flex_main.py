"""What the Flex Template launcher starts inside the worker image."""

import sys

from pipelines.flex_template import launch

if __name__ == "__main__":
    sys.exit(launch())
