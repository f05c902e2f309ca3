"""``python -m grasp_nodes``: the same as the command ``grasp-nodes``."""

from grasp_nodes.cli.app import main

if __name__ == "__main__":
    main()
