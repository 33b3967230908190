from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cuckoo_zfsiscsi.service.body import MOST, BoundedBody


class Body(BaseModel):
    text: str


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()

    @app.middleware("http")
    async def pass_on(request: Request, go_on):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return await go_on(request)

    @app.post("/model")
    async def model(body: Body) -> int:
        return len(body.text)

    @app.post("/raw")
    async def raw(request: Request) -> Response:
        return Response(str(len(await request.body())))

    @app.post("/unread")
    async def unread(request: Request) -> Response:
        return Response("not looked at")

    @app.post("/refused")
    async def refused(request: Request) -> Response:
        raise HTTPException(409)

    return TestClient(BoundedBody(app))


def pieces(size: int) -> Iterator[bytes]:
    for _ in range(0, size, 1000):
        yield b" " * 1000


@pytest.mark.parametrize("path", ["/model", "/raw"])
def test_too_long(client: TestClient, path: str) -> None:
    for content in (b" " * (MOST + 1), pieces(10 * MOST)):
        answer = client.post(path, content=content)
        assert answer.status_code == 413
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"] == "application/problem+json"
        assert str(MOST) in answer.json()["detail"]


def test_as_long_as_it_may_be(client: TestClient) -> None:
    assert client.post("/raw", content=b" " * MOST).text == str(MOST)
    assert client.post("/raw", content=pieces(MOST - 1000)).status_code == 200
    assert client.post("/model", json={"text": "x" * 1000}).json() == 1000
    assert client.post("/unread", content=b"x").text == "not looked at"
    assert client.post("/refused", content=b"x").status_code == 409
    assert client.post("/nothing", content=b"x").status_code == 404
    assert client.get("/nothing").status_code == 404


def test_what_is_declared_is_not_even_read(client: TestClient) -> None:
    answer = client.post("/unread", content=b"x", headers={"content-length": str(MOST + 1)})
    assert answer.status_code == 413
