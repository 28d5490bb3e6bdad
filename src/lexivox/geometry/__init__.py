"""Pure geometry on torch tensors: transforms, cameras, grids, rays."""
