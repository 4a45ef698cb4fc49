"""When a pass of the teacher has paid for itself: against training that runs the teacher in every step.

Such training pays for the teacher's forward pass on every image that it sees. The cache pays for one extraction (decoding
and writing included), and for nothing after it. A mini-batch of the student costs the same on both sides.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class BreakEven:
    """Seconds of the one extraction and of the teacher per image; images that a pass over the run and a student see."""

    extraction_seconds: float
    teacher_seconds_per_image: float
    images_per_epoch: int
    images_per_student: int

    @property
    def epochs(self) -> float:
        """Passes over the rows of a run after which the extraction has paid for itself."""
        return self.extraction_seconds / (self.teacher_seconds_per_image * self.images_per_epoch)

    @property
    def students(self) -> float:
        """Students of this run after which it has."""
        return self.extraction_seconds / (self.teacher_seconds_per_image * self.images_per_student)

    def saved_seconds(self, students: int) -> float:
        """What so many students save in all; negative before the extraction has paid for itself."""
        return students * self.images_per_student * self.teacher_seconds_per_image - self.extraction_seconds
