"""What does one HTTPS request on a kept connection cost, TLS on both sides, judged and recorded?

A program that polls says the same again and again, which is read once; one that works says something else each time.
"""

import pytest

from tests.bench.bench_setup import COUNT, RUNS, Place, place, rate, words  # noqa: F401
from tests.bench.meter import paired

CLIENTS = 8
ASK = """
import http.client, json, statistics, threading
def client():
    return http.client.HTTPSConnection(host, port, context=context)
def get(one, number):
    one.request("GET", "/hello")
def path(one, number):
    one.request("GET", f"/hello?number={number}")
def body(one, number):
    said = json.dumps({"model": f"m{number}", "messages": [{"role": "user", "content": "Say hello."}], "stream": False})
    one.request("POST", "/seen", said, {"Content-Type": "application/json", "Authorization": "Bearer 0123456789abcdef"})
def run(many, spent):
    one, work = client(), {"get": get, "path": path, "body": body}[kind]
    for number in range(many):
        begun = time.perf_counter(); work(one, number)
        answer = one.getresponse(); answer.read()
        assert answer.status == 200, answer.status
        spent.append(time.perf_counter() - begun)
"""
ONE = "spent = []; run(50, []); run(count, spent); print(statistics.median(spent) * 1000)\n"
MANY = f"""
import os
def each():
    children = []
    for _ in range({CLIENTS}):
        child = os.fork()
        if not child: run(count // {CLIENTS}, []); os._exit(0)
        children.append(child)
    assert not any(os.waitpid(child, 0)[1] for child in children)
begun = time.perf_counter(); each(); print(count // {CLIENTS} * {CLIENTS} / (time.perf_counter() - begun))
"""


@pytest.mark.parametrize(
    ("question", "unit", "kind", "code"),
    [
        ("HTTPS: the same GET again, one client", "ms", "get", ONE),
        ("HTTPS: a GET with another query each, one client", "ms", "path", ONE),
        ("HTTPS: a POST with another body of JSON each, one client", "ms", "body", ONE),
        (f"HTTPS: the same GET again, {CLIENTS} clients", "/s", "get", MANY),
    ],
)
def test_request(place: Place, question: str, unit: str, kind: str, code: str) -> None:  # noqa: F811
    lab, appliance, home, ours = place

    def work(cgroup: str | None) -> tuple[float, float]:
        ca = ours if cgroup else home / "authority.pem"
        return rate(lab, cgroup, words(ASK + code, lab.target_ip, 81, COUNT, str(ca), kind, "/hello")), COUNT

    paired(question, unit, (lab, appliance), work, "0.20 ms of processor time of the worker", RUNS)
