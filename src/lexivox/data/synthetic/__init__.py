"""A procedural street world with exact truth: the library's demo data and its test bench."""

from lexivox.data.synthetic.concepts import CONCEPT_NAMES, Concept
from lexivox.data.synthetic.drive import SyntheticDrive
from lexivox.data.synthetic.nuscenes_writer import DriveSpec, write_nuscenes

__all__ = ["CONCEPT_NAMES", "Concept", "DriveSpec", "SyntheticDrive", "write_nuscenes"]
