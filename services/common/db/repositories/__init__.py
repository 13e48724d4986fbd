"""Every query of the services, a file per resource. No HTTP and no torch; callers own the transaction.

A repository flushes and never commits. Changes of state are conditional UPDATEs whose row count is checked;
rows that were read are not changed through their attributes.
"""

from services.common.db.repositories.artifacts import ArtifactRepository
from services.common.db.repositories.audit import AuditRepository
from services.common.db.repositories.datasets import DatasetRepository
from services.common.db.repositories.events import EventRepository
from services.common.db.repositories.finalists import FinalistRepository
from services.common.db.repositories.jobs import HeartbeatReply, JobRepository
from services.common.db.repositories.measurements import MeasurementRepository
from services.common.db.repositories.owner import Owner
from services.common.db.repositories.searches import SearchRepository
from services.common.db.repositories.supernets import SupernetRepository
from services.common.db.repositories.tokens import TokenRepository
from services.common.db.repositories.trials import TrialRepository
from services.common.db.repositories.uploads import UploadRepository
from services.common.db.repositories.workers import WorkerRepository

__all__ = [
    "ArtifactRepository",
    "AuditRepository",
    "DatasetRepository",
    "EventRepository",
    "FinalistRepository",
    "HeartbeatReply",
    "JobRepository",
    "MeasurementRepository",
    "Owner",
    "SearchRepository",
    "SupernetRepository",
    "TokenRepository",
    "TrialRepository",
    "UploadRepository",
    "WorkerRepository",
]
