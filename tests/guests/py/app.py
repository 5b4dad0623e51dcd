"""A wasi:http component in Python, on the bindings of the wasi:http/proxy world alone."""

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import types
from wit_world.imports.streams import StreamError_Closed
