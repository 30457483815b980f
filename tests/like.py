"""Stand-ins for values that differ each time, so that whole events can be compared with one `==`."""

import re

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Like:
    """Equal to every value of a type, or every text that a pattern describes."""

    def __init__(self, kind: "type | tuple[type, ...] | str") -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        if isinstance(self.kind, str):
            return isinstance(other, str) and re.fullmatch(self.kind, other, re.DOTALL) is not None
        return isinstance(other, self.kind) and not (isinstance(other, bool) and self.kind is int)

    __hash__ = None  # type: ignore[assignment]  # it equals many values, so it can have no hash

    def __repr__(self) -> str:
        return f"<like {self.kind}>"
