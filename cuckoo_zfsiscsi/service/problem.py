"""Errors of the control API as application/problem+json (RFC 9457)."""

from __future__ import annotations

import re
from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cuckoo_zfsiscsi.errors import ZfsIscsiError


def problem(
    request: Request, status: int, kind: str, detail: str, fix: str = "", **headers: str
) -> JSONResponse:
    """Return one problem document; `host` is the label in the path, if there is one."""
    body = {
        "type": f"about:blank#{kind}",
        "title": kind.replace("-", " "),
        "status": status,
        "detail": detail,
        "fix": fix,
        "host": request.path_params.get("label", ""),
    }
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def of_error(request: Request, error: Exception) -> JSONResponse:
    """Answer with an error of ours: its class names the kind of problem."""
    if not isinstance(error, ZfsIscsiError):  # pragma: no cover - Starlette passes nothing else
        raise error
    kind = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__.removesuffix("Error")).lower()
    return problem(request, error.status, kind, error.what, error.fix)


def of_http(request: Request, error: Exception) -> JSONResponse:
    """Answer with what the framework found: unknown path, wrong method."""
    if not isinstance(error, HTTPException):  # pragma: no cover - Starlette passes nothing else
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    headers = dict(error.headers or {})
    return problem(
        request, error.status_code, phrase.lower().replace(" ", "-"), error.detail, **headers
    )


def of_body(request: Request, error: Exception) -> JSONResponse:
    """Answer to a body that is not what the API takes."""
    if not isinstance(error, RequestValidationError):  # pragma: no cover - as above
        raise error
    detail = "; ".join(
        f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
        for found in error.errors()
    )
    return problem(request, 422, "bad-request-body", detail, "see /docs for what is taken")
