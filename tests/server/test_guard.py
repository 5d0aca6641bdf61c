"""Who may send requests, and how much."""

import pytest
from fastapi.testclient import TestClient

from inflate3d.server.app import create_app
from inflate3d.server.guard import Rules, is_local


def client_with(service, **rules):
    return TestClient(create_app(service, Rules(**rules)), base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:80", "127.0.0.2:1"])
def test_names_of_this_machine(host):
    assert is_local(host)


@pytest.mark.parametrize("host", ["", "example.org", "127.0.0.1.example.org", "0.0.0.0", "[::]", "localhost.", "a:b:c"])
def test_other_names(host):
    assert not is_local(host)


def test_website_whose_name_leads_here_is_refused(service):
    assert client_with(service).get("/info/", headers={"host": "example.org"}).status_code == 421


@pytest.mark.slow
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://127.0.0.1:8001"}, 403),
        ({"origin": "https://127.0.0.1:8000"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_only_the_own_page_and_programs_may_write(service, headers, status):
    form = {"data": {"info": '{"seen": true}'}, "headers": headers}
    assert client_with(service).put("/datastore/image/info?image=toy3", **form).status_code == status


def test_token_is_required_in_a_header_or_cookie(service):
    client = client_with(service, token="correct horse", any_host=True)
    assert client.get("/auth/").json()["enabled"]
    assert client.get("/info/").status_code == 401
    assert client.get("/info/", headers={"authorization": "bearer wrong horse"}).status_code == 401
    assert client.get("/info/", headers={"authorization": "bearer correct horse"}).status_code == 200
    assert client.post("/auth/token", data={"username": "x", "password": "wrong"}).status_code == 401
    answer = client.post("/auth/token", data={"username": "x", "password": "correct horse"})
    assert answer.json() == {"access_token": "correct horse", "token_type": "bearer"}
    assert client.get("/auth/token/valid").status_code == 200  # by the cookie


def test_large_requests_are_refused_with_and_without_a_length(service):
    client = client_with(service, most_bytes=1000)
    assert client.put("/datastore/image", files={"file": ("a.nii", b"x" * 2000)}).status_code == 413
    parts = (b"x" * 100 for _ in range(20))
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert client.put("/datastore/image", content=parts, headers=headers).status_code == 413


def test_log_names_no_case(service, client):
    client.get("/datastore/image?image=toy3")
    client.get("/nowhere/toy3")
    assert "toy3" not in client.get("/logs/").text
    assert "/datastore/image 200" in client.get("/logs/").text


def test_fault_is_one_document_without_a_traceback(service, monkeypatch):
    monkeypatch.setattr(service, "statistics", lambda: 1 / 0)
    client = TestClient(create_app(service, Rules()), base_url="http://127.0.0.1", raise_server_exceptions=False)
    answer = client.get("/info/")
    assert answer.status_code == 500 and set(answer.json()) == {"error"}
    assert "Traceback" not in answer.text and "division" not in answer.text
