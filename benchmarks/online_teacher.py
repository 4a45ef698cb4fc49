"""Students from a store, against the same students with the teacher in every step: timm's distillation, lightly-train's.

    tar xf photos.tar -C PHOTOS                              # any folder of JPEG photographs; they are linked, not copied
    OMP_WAIT_POLICY=passive python -m benchmarks.online_teacher PHOTOS --images 128 --rounds 3 --lightly LIGHTLY

About 40 minutes on 2 idle cores (estimated: two students, two teachers; 12 minutes a round, 5 before the first).
`--student mobilenetv3_large_100` and others by name, repeatable; `--device cuda` on a GPU, with `--images 4096 -b 128 -j 12`.
LIGHTLY is the environment that benchmarks/lightly_train_loop.py tells how to make; without it its rows are left out. A try in
2 minutes: `--images 16 -b 8 --rounds 1 --student mobilenetv3_small_100 --teacher vit_small_patch14_dinov2`.

In every round all contestants take their turn on the same photographs: the teacher's pass (`tcs extract`: loading, pass,
gate) and `tcs fit` with `tcs targets`, of each teacher; then for each student
  tcs, labels only              `tcs train --method labels`
  tcs, ce + elsh, TEACHER       `tcs train --head tcs --loss "ce + 1.0*elsh"`, from the store: no teacher in sight
  timm, labels only             benchmarks/timm_loop.py; also with channels_last, which `tcs train` uses unasked
  timm feature task, TEACHER    the same loop with timm.task.FeatureDistillationTask, the teacher online
  lightly-train, TEACHER        benchmarks/lightly_train_loop.py
Teachers have random weights and 224 px, as the students; both cost the same time as trained ones. Seconds per epoch are wall
seconds of steps in the steady state, per image, times the images: `tcs train` reports its own (config.json), the others
take two unmeasured steps, or an epoch, first. What a run of `tcs train` does once (open, decode, build, save) is its
start, and the method `tcs+elsh` adds one refit, a forward pass over 4,096 images at most, that is in no row. Augmentation is each
one's own: `tcs train` pads, crops and flips, timm crops at random sizes and flips, lightly-train also jitters, blurs and mixes.

Peak memory, once per contestant before the rounds, over three steps: bytes of live tensors (benchmarks/tensor_memory.py), or
CUDA's own count. Writes results/online-teacher/: the rounds, their ratios, and summary.csv with a row a contestant.
Break-even is the number of epochs after which pass, fit, targets and start together are earned back, against that rival.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import turns
from benchmarks.contestants import Setup, all_contestants, link_classes
from benchmarks.rounds import group, measure, summary
from benchmarks.turns import report
from tcs.plain_files import save_table
from tcs.runtime import say

STUDENTS = ("resnet18", "mobilenetv3_small_100")
TEACHERS = ("vit_small_patch14_dinov2", "vit_base_patch14_dinov2")


def memory_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Peak memory, start and break-even as Markdown, a row a student and contestant."""
    lines = [
        "| student | contestant | peak MiB of tensors | of them uint8 | start, s | break-even, epochs |",
        "|---|---|---:|---:|---:|---:|",
    ]
    columns = ("student", "contestant", "peak_mib", "peak_uint8_mib", "start_seconds", "break_even_epochs")
    lines += [f"| {' | '.join(str(row[column]) for column in columns)} |" for row in rows if row["student"]]
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; full batches only, and two of them an epoch, or there would be nothing to time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--student", dest="students", action="append", help="timm name; repeatable")
    parser.add_argument("--teacher", dest="teachers", action="append", help="timm name of a ViT; repeatable")
    parser.add_argument("--readout", default="cls")
    parser.add_argument("--img-size", type=int, default=224)
    parser.add_argument("-b", "--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=1, help="measured epochs a turn")
    parser.add_argument("-j", "--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lightly", type=pathlib.Path, help="virtual environment of lightly-train")
    parser.add_argument("--name", default="online-teacher", help="folder of the results")
    options = parser.parse_args(arguments)
    if options.images % options.batch_size or options.images < 2 * options.batch_size:
        parser.error(
            f"--images is {options.images}; it must be a multiple of -b {options.batch_size}, at least twice it."
        )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the files."""
    options = parse(arguments)
    if options.lightly is None:
        say("--lightly names no environment, so lightly-train's rows are left out.")
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        setup = Setup(
            data=link_classes(options.photos, scratch / "data", options.images),
            scratch=scratch,
            images=options.images,
            batch_size=options.batch_size,
            epochs=options.epochs,
            workers=options.workers,
            img_size=options.img_size,
            device=options.device,
            readout=options.readout,
            lightly=options.lightly,
        )
        contestants = all_contestants(setup, options.students or STUDENTS, options.teachers or TEACHERS)
        measured = measure(contestants, options.rounds)
    rows = summary(measured, setup)
    tables = [part.table(setup.images) for part in group(measured)]
    given = None if arguments is None else list(arguments)
    report(options.name, tables, "benchmarks.online_teacher", given, memory_table(rows))
    save_table(turns.RESULTS / options.name / "summary.csv", rows)


if __name__ == "__main__":
    main()
