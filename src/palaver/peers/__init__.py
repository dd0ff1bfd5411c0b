"""Sites on separate machines: the node of the simulation as a process of its own, which trades packets with others."""
