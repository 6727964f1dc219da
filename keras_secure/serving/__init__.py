"""A verified bundle behind an address: who may ask, how often, and a trail of what was answered."""

from keras_secure.serving.api_keys import ApiKeys
from keras_secure.serving.application import create_app
from keras_secure.serving.audit_log import AuditLog
from keras_secure.serving.audit_log_report import AuditLogReport
from keras_secure.serving.audit_verification import verify_audit_log
from keras_secure.serving.authentication import Authenticator
from keras_secure.serving.budgets import QueryBudgets
from keras_secure.serving.identity import Identity
from keras_secure.serving.limits import Limits
from keras_secure.serving.observer import Observer, Query, Verdict
from keras_secure.serving.run import serve
from keras_secure.serving.sealed_inputs import open_inputs
from keras_secure.serving.served_model import ServedModel
from keras_secure.serving.tokens import JwtVerifier
from keras_secure.serving.upstream import UpstreamModel

__all__ = [
    "ApiKeys",
    "AuditLog",
    "AuditLogReport",
    "Authenticator",
    "Identity",
    "JwtVerifier",
    "Limits",
    "Observer",
    "Query",
    "QueryBudgets",
    "ServedModel",
    "UpstreamModel",
    "Verdict",
    "create_app",
    "open_inputs",
    "serve",
    "verify_audit_log",
]
