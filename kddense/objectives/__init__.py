"""What is compared with what: each objective picks from the student and the teacher, connects, and calls losses."""

from .ail import AttentiveBoxObjective, AttentiveDepthHintObjective, AttentiveDepthObjective, MeasuresTeacher
from .apprentice import ApprenticeObjective, QuantizedDistillationObjective
from .at import ATObjective, GradientATObjective, GradientSymmetryObjective
from .ban import BANObjective
from .base import Objective
from .before_relu import ABObjective, OFDObjective
from .cankd import CanKDObjective
from .chen2017 import ChenDenseObjective, ChenRoIObjective, ChenRPNObjective, HintObjective
from .cirkd import CIRKDObjective
from .classes import ClassObjective
from .crd import CRDObjective
from .crosskd import CrossKDObjective
from .cwd import CWDObjective
from .defeat import DeFeatClassObjective, DeFeatObjective
from .detrdistill import DETRDistillObjective
from .dist import DISTObjective
from .dkd import DKDObjective
from .fbkd import FBKDObjective
from .feature import FeatureObjective
from .fgd import FGDObjective
from .fgfi import FGFIObjective
from .fsp import FSPObjective
from .gid import GIDObjective
from .heads import HeadObjective
from .hinton import DenseHintonObjective
from .ifvd import IFVDObjective
from .kd_detr import KDDETRObjective
from .ld import LDObjective
from .maps import MapObjective
from .mask_queries import MaskQueryObjective
from .masks import MaskObjective
from .mgd import MGDObjective
from .mutual import MutualObjective
from .places import PlaceObjective
from .privileged import PrivilegedObjective
from .queries import QueryObjective
from .query_prior import QueryPriorObjective
from .relations import RelationObjective
from .relative_depth import RelativeDepthObjective
from .self_attention import SelfAttentionObjective
from .skd import HolisticObjective, PairWiseObjective, PixelWiseObjective
from .target_aware import TargetAwareObjective

__all__ = [
    'ABObjective',
    'ATObjective',
    'ApprenticeObjective',
    'AttentiveBoxObjective',
    'AttentiveDepthHintObjective',
    'AttentiveDepthObjective',
    'BANObjective',
    'CIRKDObjective',
    'CRDObjective',
    'CWDObjective',
    'CanKDObjective',
    'ChenDenseObjective',
    'ChenRPNObjective',
    'ChenRoIObjective',
    'ClassObjective',
    'CrossKDObjective',
    'DETRDistillObjective',
    'DISTObjective',
    'DKDObjective',
    'DeFeatClassObjective',
    'DeFeatObjective',
    'DenseHintonObjective',
    'FBKDObjective',
    'FGDObjective',
    'FGFIObjective',
    'FSPObjective',
    'FeatureObjective',
    'GIDObjective',
    'GradientATObjective',
    'GradientSymmetryObjective',
    'HeadObjective',
    'HintObjective',
    'HolisticObjective',
    'IFVDObjective',
    'KDDETRObjective',
    'LDObjective',
    'MGDObjective',
    'MapObjective',
    'MaskObjective',
    'MaskQueryObjective',
    'MeasuresTeacher',
    'MutualObjective',
    'OFDObjective',
    'Objective',
    'PairWiseObjective',
    'PixelWiseObjective',
    'PlaceObjective',
    'PrivilegedObjective',
    'QuantizedDistillationObjective',
    'QueryObjective',
    'QueryPriorObjective',
    'RelationObjective',
    'RelativeDepthObjective',
    'SelfAttentionObjective',
    'TargetAwareObjective',
]
