"""The one table of request fields: what docs/requests.md, openapi.json and the routes are made from."""

from server.schemas.constraints import CONSTRAINT_FIELDS
from server.schemas.fields import Table
from server.schemas.openai_fields import OPENAI_FIELDS
from server.schemas.peer_fields import PEER_FIELDS

FIELDS = Table((*OPENAI_FIELDS, *CONSTRAINT_FIELDS, *PEER_FIELDS))
