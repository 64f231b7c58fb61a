from rig.fixtures import *  # noqa: F403  one set for every folder that runs the program
