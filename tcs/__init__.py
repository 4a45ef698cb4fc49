"""Few-shot TCS distillation from a feature cache: a teacher runs once, small students train without it.

Every command of `tcs` is a function here, and its options are those of the command with `-` written `_`: given by name, or as one
frozen configuration. A name loads its module when it is first asked for, so `import tcs` loads neither torch nor numpy.

    import tcs

    tcs.extract("my/train", out="train.store", teacher="vit_small_patch14_dinov2.lvd142m")
    tcs.fit("train.store", out="c.safetensors")
    tcs.fit_targets("train.store", "c.safetensors", out="t.h5")
    tcs.train("train.store", targets="t.h5", models=("resnet18",), shots=16, out="run")
    tcs.evaluate("run", "test.store")
    tcs.load_student("run").predict("photos")

What a user can cause is a `TcsError` (or a `cache.errors.CacheError`) of one line. The store itself is the package `cache`, the losses
as plain functions are `tcs.functional`. docs/reference/python.md goes through all of it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tcs import shadowing

if TYPE_CHECKING:  # for type checkers and editors; a test holds these lines against the table below
    from tcs.auditing.findings import AuditFinding as AuditFinding
    from tcs.auditing.result import Audit as Audit
    from tcs.auditing.run import audit as audit
    from tcs.config.audit import AuditConfig as AuditConfig
    from tcs.config.coordinates import FitConfig as FitConfig
    from tcs.config.coordinates import TargetsConfig as TargetsConfig
    from tcs.config.distill import DistillConfig as DistillConfig
    from tcs.config.evaluate import EvalConfig as EvalConfig
    from tcs.config.evaluate import FewshotConfig as FewshotConfig
    from tcs.config.evaluate import ProbeConfig as ProbeConfig
    from tcs.config.exchange import ImportConfig as ImportConfig
    from tcs.config.export import ExportConfig as ExportConfig
    from tcs.config.extract import ExtractConfig as ExtractConfig
    from tcs.config.extract import RecomputeConfig as RecomputeConfig
    from tcs.config.extract import RepairConfig as RepairConfig
    from tcs.config.inference import LatencyConfig as LatencyConfig
    from tcs.config.inference import PredictConfig as PredictConfig
    from tcs.config.labelling import LabelConfig as LabelConfig
    from tcs.config.labelling import SuggestConfig as SuggestConfig
    from tcs.config.look import LookConfig as LookConfig
    from tcs.config.pretrain import PretrainConfig as PretrainConfig
    from tcs.config.teachers import CompareConfig as CompareConfig
    from tcs.config.train import TrainConfig as TrainConfig
    from tcs.config.update import UpdateConfig as UpdateConfig
    from tcs.coordinates.fit import fit as fit
    from tcs.coordinates.system import CoordinateSystem as CoordinateSystem
    from tcs.coordinates.system import load_coordinates as load_coordinates
    from tcs.coordinates.targets import Targets as Targets
    from tcs.coordinates.targets import fit_targets as fit_targets
    from tcs.coordinates.targets import open_targets as open_targets
    from tcs.demonstration.demo import demo as demo
    from tcs.doctor.diagnose import diagnose as diagnose
    from tcs.doctor.finding import Finding as Finding
    from tcs.errors import ArtefactError as ArtefactError
    from tcs.errors import ConfigError as ConfigError
    from tcs.errors import DataError as DataError
    from tcs.errors import DivergedError as DivergedError
    from tcs.errors import ModelError as ModelError
    from tcs.errors import NotOrdinaryError as NotOrdinaryError
    from tcs.errors import RankError as RankError
    from tcs.errors import ResourceError as ResourceError
    from tcs.errors import ShadowedError as ShadowedError
    from tcs.errors import TcsError as TcsError
    from tcs.evaluation.probe import probe as probe
    from tcs.evaluation.students import evaluate as evaluate
    from tcs.evaluation.teachers import compare_teachers as compare_teachers
    from tcs.exchange.features import export_features as export_features
    from tcs.exchange.features import import_features as import_features
    from tcs.export.stage import export_students as export_students
    from tcs.extraction.extract import extract as extract
    from tcs.grid.reported import write_report as write_report
    from tcs.grid.run import fewshot as fewshot
    from tcs.inference.latency import measure_latency as measure_latency
    from tcs.inference.prediction import predict as predict
    from tcs.inference.predictions import Prediction as Prediction
    from tcs.inference.student import Student as Student
    from tcs.inference.student import load_student as load_student
    from tcs.labelling.suggest import suggest as suggest
    from tcs.looking.result import Look as Look
    from tcs.looking.run import look as look
    from tcs.maintenance.changes import StoreChanges as StoreChanges
    from tcs.maintenance.facts import store_facts as store_facts
    from tcs.maintenance.recompute import recompute as recompute
    from tcs.maintenance.repair import repair as repair
    from tcs.maintenance.update import update as update
    from tcs.maintenance.verify import measure_drift as measure_drift
    from tcs.methods.catalogue import loss_facts as loss_facts
    from tcs.methods.catalogue import method_facts as method_facts
    from tcs.methods.catalogue import other_facts as other_facts
    from tcs.pipeline.chain import distill as distill
    from tcs.pretraining.teacher import pretrain as pretrain
    from tcs.splits.given_labels import label_store as label_store
    from tcs.training.train import forecast as forecast
    from tcs.training.train import train as train
    from tcs.verifying.outcome import ArtefactVerification as ArtefactVerification
    from tcs.verifying.verify import verify as verify

__version__ = "0.3.0"

# public name -> the module that it is in, in the order of the chain
MODULE_OF: dict[str, str] = {
    "DistillConfig": "tcs.config.distill",
    "distill": "tcs.pipeline.chain",
    "PretrainConfig": "tcs.config.pretrain",
    "pretrain": "tcs.pretraining.teacher",
    "ExtractConfig": "tcs.config.extract",
    "extract": "tcs.extraction.extract",
    "FitConfig": "tcs.config.coordinates",
    "fit": "tcs.coordinates.fit",
    "CoordinateSystem": "tcs.coordinates.system",
    "load_coordinates": "tcs.coordinates.system",
    "TargetsConfig": "tcs.config.coordinates",
    "fit_targets": "tcs.coordinates.targets",
    "Targets": "tcs.coordinates.targets",
    "open_targets": "tcs.coordinates.targets",
    "TrainConfig": "tcs.config.train",
    "train": "tcs.training.train",
    "forecast": "tcs.training.train",
    "EvalConfig": "tcs.config.evaluate",
    "evaluate": "tcs.evaluation.students",
    "load_student": "tcs.inference.student",
    "Student": "tcs.inference.student",
    "Prediction": "tcs.inference.predictions",
    "PredictConfig": "tcs.config.inference",
    "predict": "tcs.inference.prediction",
    "LatencyConfig": "tcs.config.inference",
    "measure_latency": "tcs.inference.latency",
    "ExportConfig": "tcs.config.export",
    "export_students": "tcs.export.stage",
    "SuggestConfig": "tcs.config.labelling",
    "suggest": "tcs.labelling.suggest",
    "LabelConfig": "tcs.config.labelling",
    "label_store": "tcs.splits.given_labels",
    "AuditConfig": "tcs.config.audit",
    "audit": "tcs.auditing.run",
    "Audit": "tcs.auditing.result",
    "AuditFinding": "tcs.auditing.findings",
    "LookConfig": "tcs.config.look",
    "look": "tcs.looking.run",
    "Look": "tcs.looking.result",
    "ProbeConfig": "tcs.config.evaluate",
    "probe": "tcs.evaluation.probe",
    "CompareConfig": "tcs.config.teachers",
    "compare_teachers": "tcs.evaluation.teachers",
    "FewshotConfig": "tcs.config.evaluate",
    "fewshot": "tcs.grid.run",
    "write_report": "tcs.grid.reported",
    "demo": "tcs.demonstration.demo",
    "diagnose": "tcs.doctor.diagnose",
    "Finding": "tcs.doctor.finding",
    "verify": "tcs.verifying.verify",
    "ArtefactVerification": "tcs.verifying.outcome",
    "loss_facts": "tcs.methods.catalogue",
    "method_facts": "tcs.methods.catalogue",
    "other_facts": "tcs.methods.catalogue",
    "store_facts": "tcs.maintenance.facts",
    "measure_drift": "tcs.maintenance.verify",
    "RecomputeConfig": "tcs.config.extract",
    "recompute": "tcs.maintenance.recompute",
    "UpdateConfig": "tcs.config.update",
    "update": "tcs.maintenance.update",
    "StoreChanges": "tcs.maintenance.changes",
    "RepairConfig": "tcs.config.extract",
    "repair": "tcs.maintenance.repair",
    "ImportConfig": "tcs.config.exchange",
    "import_features": "tcs.exchange.features",
    "export_features": "tcs.exchange.features",
    "TcsError": "tcs.errors",
    "DataError": "tcs.errors",
    "ModelError": "tcs.errors",
    "ArtefactError": "tcs.errors",
    "ConfigError": "tcs.errors",
    "DivergedError": "tcs.errors",
    "ResourceError": "tcs.errors",
    "NotOrdinaryError": "tcs.errors",
    "RankError": "tcs.errors",
    "ShadowedError": "tcs.errors",
}

if (
    not TYPE_CHECKING
):  # a type checker takes a module with __getattr__ to have every name, and needs __all__ written out
    __all__ = list(MODULE_OF)

    def __getattr__(name: str) -> Any:
        """A public name, from its module, which is imported now. Kept, so that this is asked once a name."""
        if name not in MODULE_OF:
            raise AttributeError(f"module 'tcs' has no attribute '{name}'; dir(tcs) lists what it has")
        value = globals()[name] = getattr(importlib.import_module(MODULE_OF[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULE_OF})


shadowing.install()
