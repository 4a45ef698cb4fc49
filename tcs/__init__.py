"""Few-shot TCS distillation from a feature cache: a teacher runs once, small students train without it.

Every command of `tcs` is a function here, and its options are those of the command with `-` written `_`: given by name, or as one
frozen configuration; help(tcs.extract) lists them. A name loads its module when it is first asked for, so `import tcs` loads neither
torch nor numpy.

    import tcs

    store = tcs.extract("my/train", out="train.store", teacher="vit_small_patch14_dinov2.lvd142m")
    tcs.fit(store, out="c.safetensors")
    targets = tcs.fit_targets(store, "c.safetensors", out="t.h5")
    tcs.train(store, targets=targets, models=["resnet18"], shots=16, out="run")
    tcs.evaluate("run", "test.store")
    tcs.load_student("run").predict("photos")

What a user can cause is a `TcsError` (or a `cache.errors.CacheError`) of one line. The store itself is the package `cache`, the losses
as plain functions are `tcs.functional`. docs/reference/python.md goes through all of it.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from tcs import shadowing

if TYPE_CHECKING:  # for type checkers and editors; a test holds these lines against the table below
    from tcs.auditing.findings import AuditFinding as AuditFinding
    from tcs.auditing.result import Audit as Audit
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
    from tcs.coordinates.system import CoordinateSystem as CoordinateSystem
    from tcs.coordinates.system import load_coordinates as load_coordinates
    from tcs.coordinates.targets import Targets as Targets
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
    from tcs.exchange.features import export_features as export_features
    from tcs.grid.reported import write_report as write_report
    from tcs.inference.predictions import Prediction as Prediction
    from tcs.inference.student import Student as Student
    from tcs.inference.student import load_student as load_student
    from tcs.looking.result import Look as Look
    from tcs.maintenance.changes import StoreChanges as StoreChanges
    from tcs.maintenance.facts import store_facts as store_facts
    from tcs.maintenance.verify import measure_drift as measure_drift
    from tcs.methods.catalogue import loss_facts as loss_facts
    from tcs.methods.catalogue import method_facts as method_facts
    from tcs.methods.catalogue import other_facts as other_facts
    from tcs.stages.audit import audit as audit
    from tcs.stages.compare_teachers import compare_teachers as compare_teachers
    from tcs.stages.distill import distill as distill
    from tcs.stages.evaluate import evaluate as evaluate
    from tcs.stages.export_students import export_students as export_students
    from tcs.stages.extract import extract as extract
    from tcs.stages.fewshot import fewshot as fewshot
    from tcs.stages.fit import fit as fit
    from tcs.stages.fit_targets import fit_targets as fit_targets
    from tcs.stages.forecast import forecast as forecast
    from tcs.stages.import_features import import_features as import_features
    from tcs.stages.label_store import label_store as label_store
    from tcs.stages.look import look as look
    from tcs.stages.measure_latency import measure_latency as measure_latency
    from tcs.stages.predict import predict as predict
    from tcs.stages.pretrain import pretrain as pretrain
    from tcs.stages.probe import probe as probe
    from tcs.stages.recompute import recompute as recompute
    from tcs.stages.repair import repair as repair
    from tcs.stages.suggest import suggest as suggest
    from tcs.stages.train import train as train
    from tcs.stages.update import update as update
    from tcs.verifying.outcome import ArtefactVerification as ArtefactVerification
    from tcs.verifying.verify import verify as verify

__version__ = "0.3.0"

# public name -> the module that it is in, in the order of the chain
MODULE_OF: dict[str, str] = {
    "DistillConfig": "tcs.config.distill",
    "distill": "tcs.stages.distill",
    "PretrainConfig": "tcs.config.pretrain",
    "pretrain": "tcs.stages.pretrain",
    "ExtractConfig": "tcs.config.extract",
    "extract": "tcs.stages.extract",
    "FitConfig": "tcs.config.coordinates",
    "fit": "tcs.stages.fit",
    "CoordinateSystem": "tcs.coordinates.system",
    "load_coordinates": "tcs.coordinates.system",
    "TargetsConfig": "tcs.config.coordinates",
    "fit_targets": "tcs.stages.fit_targets",
    "Targets": "tcs.coordinates.targets",
    "open_targets": "tcs.coordinates.targets",
    "TrainConfig": "tcs.config.train",
    "train": "tcs.stages.train",
    "forecast": "tcs.stages.forecast",
    "EvalConfig": "tcs.config.evaluate",
    "evaluate": "tcs.stages.evaluate",
    "load_student": "tcs.inference.student",
    "Student": "tcs.inference.student",
    "Prediction": "tcs.inference.predictions",
    "PredictConfig": "tcs.config.inference",
    "predict": "tcs.stages.predict",
    "LatencyConfig": "tcs.config.inference",
    "measure_latency": "tcs.stages.measure_latency",
    "ExportConfig": "tcs.config.export",
    "export_students": "tcs.stages.export_students",
    "SuggestConfig": "tcs.config.labelling",
    "suggest": "tcs.stages.suggest",
    "LabelConfig": "tcs.config.labelling",
    "label_store": "tcs.stages.label_store",
    "AuditConfig": "tcs.config.audit",
    "audit": "tcs.stages.audit",
    "Audit": "tcs.auditing.result",
    "AuditFinding": "tcs.auditing.findings",
    "LookConfig": "tcs.config.look",
    "look": "tcs.stages.look",
    "Look": "tcs.looking.result",
    "ProbeConfig": "tcs.config.evaluate",
    "probe": "tcs.stages.probe",
    "CompareConfig": "tcs.config.teachers",
    "compare_teachers": "tcs.stages.compare_teachers",
    "FewshotConfig": "tcs.config.evaluate",
    "fewshot": "tcs.stages.fewshot",
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
    "recompute": "tcs.stages.recompute",
    "UpdateConfig": "tcs.config.update",
    "update": "tcs.stages.update",
    "StoreChanges": "tcs.maintenance.changes",
    "RepairConfig": "tcs.config.extract",
    "repair": "tcs.stages.repair",
    "ImportConfig": "tcs.config.exchange",
    "import_features": "tcs.stages.import_features",
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

# command -> its function, where that is called otherwise
OF_COMMAND = {
    "targets": "fit_targets",
    "eval": "evaluate",
    "latency": "measure_latency",
    "export": "export_students",
    "report": "write_report",
    "doctor": "diagnose",
    "methods": "method_facts",
}

if (
    not TYPE_CHECKING
):  # a type checker takes a module with __getattr__ to have every name, and needs __all__ written out
    __all__ = list(MODULE_OF)

    def __getattr__(name: str) -> Any:
        """A public name, from its module, which is imported now. Kept, so that this is asked once a name."""
        if name not in MODULE_OF:
            remedy = (
                f"tcs.{OF_COMMAND[name]} is what the command does"
                if name in OF_COMMAND
                else "dir(tcs) lists what it has"
            )
            told = f"module 'tcs' has no attribute '{name}'; {remedy}"
            raise AttributeError(told, name=name, obj=sys.modules[__name__])  # of which Python says which name is meant
        value = globals()[name] = getattr(importlib.import_module(MODULE_OF[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULE_OF})


shadowing.install()
