"""What can be read of a bag file that is cut off, damaged in places, or has lost its index."""
