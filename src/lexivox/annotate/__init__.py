"""Making a retrieval benchmark: a box on an image becomes LiDAR points with a phrase (spec pop3d 7.4)."""
