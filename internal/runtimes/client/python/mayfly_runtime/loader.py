"""Finds the handler, on the search path that AWS's functions have."""

import os
import sys

import _frozen_importlib
import _frozen_importlib_external


class Fault(Exception):
    """An error of the runtime's own, with AWS's type."""

    def __init__(self, error_type, message, trace=None):
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.trace = trace


_initial_path = list(sys.path)
_initial_pythonpath = os.environ.get("PYTHONPATH", "").split(os.pathsep)
_standard = [p for p in _initial_path[1:] if p not in _initial_pythonpath]


def set_search_path():
    """Makes sys.path what it is on AWS: code, layers, PYTHONPATH, the standard library, installed packages."""
    version = "python%d.%d" % sys.version_info[:2]
    task = os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd()
    layers = os.environ.pop("_MAYFLY_LAYERS_DIR", "/opt") + "/python"
    own = [task, "%s/lib/%s/site-packages" % (layers, version), layers]
    own += [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p not in own]
    prefix = sys.base_prefix
    installed = [prefix + "/lib/" + version + "/site-packages"]
    if prefix == "/usr":
        installed += ["/usr/local/lib/" + version + "/dist-packages", "/usr/lib/python3/dist-packages"]
    sys.path[:] = own + _standard + [p for p in installed if os.path.isdir(p)]
    sys.meta_path.insert(0, _Preloaded)
    _add_site_names()
    for directory in own:
        if os.path.exists(directory + "/sitecustomize.py"):
            __import__("sitecustomize")
            break


class _Preloaded:
    """Finds the modules that AWS's client has imported before the function's code: a file of the same name among the code
    does not replace them. It also sets logging up when that is first imported, which AWS does at once."""

    names = frozenset(
        (
            "collections",
            "contextlib",
            "copyreg",
            "decimal",
            "enum",
            "functools",
            "importlib",
            "json",
            "keyword",
            "linecache",
            "logging",
            "math",
            "numbers",
            "operator",
            "re",
            "reprlib",
            "string",
            "threading",
            "token",
            "tokenize",
            "traceback",
            "types",
            "warnings",
            "weakref",
        )
    )

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if path is not None or name not in cls.names:
            return None
        spec = _frozen_importlib_external.PathFinder.find_spec(name, _standard)
        if spec is not None and name == "logging":
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                install_logging()

            spec.loader.exec_module = exec_module
        return spec


def install_logging():
    from . import logs

    logs.install()


def _add_site_names():
    """exit and quit, which the site module adds to the built-in names."""
    import builtins

    def leave(code=None):
        raise SystemExit(code)

    for name in ("exit", "quit"):
        if not hasattr(builtins, name):
            setattr(builtins, name, leave)


def load(handler):
    """The function named by module.function. Raises Fault, or whatever the module raises when it is imported."""
    try:
        module_name, function_name = handler.rsplit(".", 1)
    except ValueError as e:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': %s" % (handler, e))
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault(
            "Runtime.BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module_name
        )
    try:
        module = _frozen_importlib._gcd_import(module_name.replace("/", "."))
    except ImportError as e:
        raise Fault("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (module_name, e))
    except SyntaxError as e:
        raise Fault(
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module '%s': %s" % (module_name, e),
            ['  File "%s" Line %s\n    %s' % (e.filename, e.lineno, e.text)],
        )
    try:
        return getattr(module, function_name)
    except AttributeError:
        raise Fault("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % (function_name, module_name))
