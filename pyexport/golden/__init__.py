"""The golden model: what every activation and cycle count must be, in NumPy. It never sees a program or an image."""

from pyexport.golden.cycles import layer_cycles, network_cycles
from pyexport.golden.network import rounded, run

__all__ = ["layer_cycles", "network_cycles", "rounded", "run"]
