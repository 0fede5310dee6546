"""redis-cli, redis-benchmark, redis-py and node-redis through a gate, unchanged; and what is recorded, in Wireshark."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as driver

from appliance.lab.redis import Redis
from appliance.model import Address, Flow
from appliance.record.frame import Frame
from appliance.record.pcapng import blocks
from tests.gate import AGENT, Gate

pytestmark = pytest.mark.peer
NODE = Path(__file__).parents[2] / "build/node/node_modules"
RULES = """
rules:
  - {id: no-flush, to: db, when: {effect: [flush, admin]}, do: block}
  - {id: hide, to: db, when: {key: "user:*"}, do: mask}
  - {id: rest, to: db, do: allow}
"""


@pytest.fixture
def gate(redis: Redis) -> Iterator[Gate]:
    redis.admin("FLUSHALL")
    redis.admin("HSET", "user:1", "name", "Ada", "age", "36")
    redis.admin("SET", "user:2", "Ada Lovelace")
    with Gate(Address("127.0.0.1", redis.port), RULES, protocol="redis") as gate:
        yield gate


def cli(gate: Gate, *words: str, input: str = "") -> str:
    done = subprocess.run(["redis-cli", "-p", str(gate.port), *words], input=input, capture_output=True, text=True, timeout=60)
    return (done.stdout + done.stderr).strip()


@pytest.mark.parametrize("resp", [["-2"], ["-3"]])
def test_redis_cli(gate: Gate, resp: list[str]) -> None:
    assert cli(gate, *resp, "SET", "k", "v") == "OK"
    assert cli(gate, *resp, "GET", "k") == "v"
    assert cli(gate, *resp, "HGETALL", "user:1").split() == ["name", "[redacted]", "age", "[redacted]"]
    assert "NOPERM denied by vendorgate (decision" in cli(gate, *resp, "FLUSHALL")
    said = cli(gate, *resp, input="MULTI\nSET a 1\nFLUSHALL\nEXEC\nGET a\nPING\n").splitlines()
    assert [said[0], said[1]] == ["OK", "QUEUED"]
    assert said[-1] == "PONG"
    assert any(line.startswith("EXECABORT") for line in said)


def test_redis_cli_in_its_other_ways(gate: Gate) -> None:
    load = "".join(f"*3\r\n$3\r\nSET\r\n$6\r\nk{i:05}\r\n$1\r\nx\r\n" for i in range(2000))
    assert "errors: 0, replies: 2000" in cli(gate, "--pipe", input=load)
    assert len(cli(gate, "--scan", "--pattern", "k0*").split()) == 2000
    assert "2002 keys" in cli(gate, "--bigkeys")
    assert "redis_version" in cli(gate, "INFO", "server")
    assert cli(gate, "-x", "SET", "binary", input="\x00\x01") == "OK"
    assert cli(gate, "--eval", "/dev/stdin", "k00001", input="return redis.call('GET', KEYS[1])") == "x"
    assert "Error: Server closed the connection" not in cli(gate, "-r", "3", "-i", "0.01", "PING")


def test_redis_benchmark(gate: Gate) -> None:
    words = ["redis-benchmark", "-p", str(gate.port), "-n", "1000", "-c", "10", "-P", "16", "-q", "-t", "set,get,incr,lpush,lrange_100,mset"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "requests per second" in done.stdout
    assert "rror" not in done.stdout.replace("ERROR: failed to fetch CONFIG", "").replace("WARNING: Could not fetch server CONFIG", "")


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py(gate: Gate, protocol: int) -> None:
    with driver.Redis(port=gate.port, protocol=protocol, decode_responses=True) as client:
        assert client.set("k", "v", ex=100)
        assert client.get("k") == "v"
        client.hset("h", mapping={"f": "v"})
        assert client.hgetall("h") == {"f": "v"}
        client.zadd("z", {"a": 1.5})
        assert client.zrange("z", 0, -1, withscores=True) == ([("a", 1.5)] if protocol == 2 else [["a", 1.5]])
        assert client.hgetall("user:1") == {"name": "[redacted]", "age": "[redacted]"}
        assert client.get("user:2") == "[redacted]"
        with pytest.raises(driver.exceptions.NoPermissionError, match="denied by vendorgate"):
            client.flushall()
        with pytest.raises(driver.exceptions.ResponseError, match="denied by vendorgate"):
            client.pipeline(transaction=True).set("x", "1").flushall().execute()
        assert client.exists("x") == 0
        assert client.pipeline(transaction=True).set("x", "1").incr("x").get("user:2").execute() == [True, 2, "[redacted]"]
        pipe = client.pipeline(transaction=False)
        for i in range(1000):
            pipe.set(f"p{i}", i)
        assert all(pipe.execute())
        with client.lock("a lock", timeout=10):  # its release is a script that compares
            pass
        assert client.register_script("return redis.call('INCR', KEYS[1])")(keys=["n"]) == 1
        heard = client.pubsub(ignore_subscribe_messages=True)
        heard.subscribe("news")
        heard.get_message(timeout=20)
        client.publish("news", "hello")
        message = next(m for m in iter(lambda: heard.get_message(timeout=20), None) if m["type"] == "message")
        assert message["data"] == "hello"
        heard.close()


def test_masked_scores_do_not_break_redis_py(gate: Gate, redis: Redis) -> None:
    redis.admin("ZADD", "user:z", "1815", "ada")
    for protocol in (2, 3):
        with driver.Redis(port=gate.port, protocol=protocol, decode_responses=True) as client:
            ((member, score),) = client.zrange("user:z", 0, -1, withscores=True)
            assert member == "[redacted]"
            assert score != 1815


@pytest.mark.parametrize("resp", [2, 3])
def test_node_redis(gate: Gate, resp: int) -> None:
    assert NODE.exists(), "no drivers of Node: run `make build/node/.built`"
    words = ["node", str(Path(__file__).parent / "node/redis.js"), str(gate.port), str(resp)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env={**os.environ, "NODE_PATH": str(NODE)})
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said == {
        "ping": "PONG", "get": "v", "missing": None, "hash": {"f": "v", "g": "w"},
        "scores": [{"value": "a", "score": 1.5}, {"value": "b", "score": 2}], "multi": ["OK", 2, "2"], "pipeline": 1,
        "values": ["1", "2", None], "script": "v", "masked": {"name": "[redacted]", "age": "[redacted]"}, "maskedGet": "[redacted]",
        "flush": "NOPERM denied by vendorgate (decision ID)", "copy": "NOPERM denied by vendorgate (decision ID)",
        "poisoned": said["poisoned"], "after": 0, "type": "string", "message": "hello", "scan": 500,
    }  # fmt: skip
    assert said["poisoned"] != "passed"


def test_wireshark_reads_what_is_exported(gate: Gate, tmp_path: Path) -> None:
    for resp in ("-2", "-3"):
        cli(gate, resp, input="SET k v\nGET user:2\nHGETALL user:1\nMULTI\nGET k\nEXEC\nFLUSHALL\nGET nothing\nACL LIST\nPING\n")
    with driver.Redis(port=gate.port, protocol=3) as client:
        client.pubsub().subscribe("news")
        client.pipeline(transaction=False).get("user:2").get("k").execute()
    file = tmp_path / "out.pcapng"
    file.write_bytes(b"".join(blocks(frames(gate))))
    decode = ["-d", f"tcp.port=={gate.server.port},resp"]
    words = ["tshark", "-r", str(file), *decode, "-T", "fields", "-e", "_ws.malformed", "-e", "_ws.expert.message", "-e", "frame.protocols"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    spoken = [line for line in lines if "resp" in line[2] or "redis" in line[2]]
    assert len(spoken) > 20
    assert [line for line in lines if line[0] or "alformed" in line[1]] == []
    text = subprocess.run(["tshark", "-r", str(file), *decode, "-V"], capture_output=True, text=True, timeout=120).stdout
    assert "[redacted]" in text
    assert "Ada Lovelace" not in text
    assert "block by no-flush" in text or "no-flush" in text


def frames(gate: Gate) -> list[Frame]:
    """Return what the record would hold of the flows of a gate."""
    flows = {id: Flow(id, 1_700_000_000.0, Address("127.0.0.1", 40_000 + int(id)), gate.server, AGENT) for id, _ in gate.notes}
    begun: set[str] = set()
    found = []
    for number, (id, note) in enumerate(list(gate.notes)):
        flow = flows[id] if id not in begun else None
        found.append(Frame(number, 1_700_000_000.0 + number / 1000, id, note, flow=flow))
        begun.add(id)
    return found
