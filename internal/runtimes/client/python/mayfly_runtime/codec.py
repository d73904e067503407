"""JSON to and from the handler, as AWS's client has it: with its separators, with NaN, with decimals written as numbers,
named tuples as objects, bytes as text.

It goes straight to the C coder that the json module wraps, since importing json costs more than all of this client. What
that cannot do (to word an error, to write a decimal) imports json then.
"""

import sys

try:
    import _json
except ImportError:  # not part of every build
    _json = None

_SPACE = " \t\n\r"
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Scan:
    """The settings that the C scanner reads off its argument."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _CONSTANTS.__getitem__
    memo = {}


_scan = _json.make_scanner(_Scan) if _json else None


def decode(data):
    """The value of a JSON text in bytes. Raises ValueError, worded as json.loads does."""
    if _scan is not None:
        try:
            text = str(data, "utf-8")
            start, end = 0, len(text)
            while start < end and text[start] in _SPACE:
                start += 1
            value, at = _scan(text, start)
            while at < end and text[at] in _SPACE:
                at += 1
            if at == end:
                return value
        except Exception:  # SystemError among them, from a scanner that misses the module with its error's type
            pass
    import json

    return json.loads(data)


class _Slow(Exception):
    """A value needs the slow encoder."""


def _default(value):
    """What the C encoder asks for a value that it does not know."""
    if isinstance(value, bytes):
        return str(value, "utf-8")
    decimal = sys.modules.get("decimal")  # no module, no decimals
    if decimal is not None and isinstance(value, decimal.Decimal):
        raise _Slow()
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


class Encoder:
    """Writes results; ascii escapes all that is not ASCII, as AWS did until Python 3.11."""

    def __init__(self, ascii):
        self._ascii = ascii
        self._string = None
        if _json is not None:
            self._string = _json.encode_basestring_ascii if ascii else _json.encode_basestring

    def encode(self, value):
        """The JSON text. Raises TypeError, ValueError or RecursionError for what has none."""
        try:
            if _has_named_tuple(value):
                value = _plain(value)
        except RecursionError:
            pass  # circular or too deep: the encoder says which
        if self._string is not None:
            try:
                return "".join(
                    _json.make_encoder({}, _default, self._string, None, ": ", ", ", False, False, True)(value, 0)
                )
            except _Slow:
                pass
        return self._encode_slowly(value)

    def _encode_slowly(self, value):
        import decimal
        import json.encoder

        string = json.encoder.encode_basestring_ascii if self._ascii else json.encoder.encode_basestring

        def default(value):
            if isinstance(value, decimal.Decimal):
                return float("nan") if value.is_nan() else _Literal(value)
            return _default(value)

        def write(text):
            return str(text) if isinstance(text, _Literal) else string(text)

        make = json.encoder.c_make_encoder
        if make is None:
            raise TypeError("this build of Python has no JSON encoder")
        return "".join(make({}, default, write, None, ": ", ", ", False, False, True)(value, 0))


class _Literal(str):
    """A text that stands in the output as it is."""


def _has_named_tuple(value):
    kind = type(value)
    if kind is dict:
        return any(map(_has_named_tuple, value.values()))
    if kind is list or kind is tuple:
        return any(map(_has_named_tuple, value))
    return isinstance(value, tuple) and hasattr(value, "_asdict")


def _plain(value):
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
