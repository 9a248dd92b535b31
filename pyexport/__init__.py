"""INTACT's Python: from a quantised model file to the integers, the program and the memory images of the hardware."""
