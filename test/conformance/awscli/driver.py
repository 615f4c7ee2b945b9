"""Runs the AWS CLI for whoever writes requests to stdin, one JSON object per line, and answers on stdout.

test/e2e/sdk/driver.mjs describes requests and answers. Each call is a process, `aws SERVICE OPERATION
--MEMBER VALUE …`. Endpoints, keys and region come from the environment; a request's config overrides
them for one call. The AWS CLI does not show the HTTP status of an error, so it is -1 here.
"""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CLI = Path(sys.executable).parent / "aws"
BASE = os.environ | {"AWS_CONFIG_FILE": str(Path(__file__).parent / "config"), "AWS_PAGER": ""}
USAGE = 2  # exit status of wrong arguments
SERVICE_ERROR = re.compile(r"An error occurred \((\w+)\) when calling the \w+ operation(?: \(reached max retries: \d+\))?: ?(.*)", re.DOTALL)


def kebab(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def command_line(request):
    words = [str(CLI), request["service"], kebab(request["command"])]
    for member, value in request["input"].items():
        words += ["--" + kebab(member), value if isinstance(value, str) else json.dumps(value)]
    if "endpoint" in request.get("config", {}):
        words += ["--endpoint-url", request["config"]["endpoint"]]
    if "pageSize" in request:
        words += ["--page-size", str(request["pageSize"])]
    return words


def environment(config):
    keys = config.get("credentials", {})
    override = {
        "AWS_REGION": config.get("region"), "AWS_DEFAULT_REGION": config.get("region"),
        "AWS_ACCESS_KEY_ID": keys.get("accessKeyId"), "AWS_SECRET_ACCESS_KEY": keys.get("secretAccessKey"),
    }
    return BASE | {name: value for name, value in override.items() if value}


def answer(request):
    done = subprocess.run(command_line(request), env=environment(request.get("config", {})), capture_output=True, text=True)
    if done.returncode == 0:
        output = json.loads(done.stdout or "{}")
        # The CLI merges the pages it asks for.
        return {"output": {"pages": [output]} if "pageSize" in request else output}
    error = SERVICE_ERROR.search(done.stderr.strip())
    if error:
        return {"error": {"name": error[1], "message": error[2], "status": -1}}
    unsent = done.returncode == USAGE or "Parameter validation failed" in done.stderr
    return {"error": {"name": f"exit status {done.returncode}", "message": done.stderr.strip().splitlines()[-1], "status": 0 if unsent else -1}}


def serve(line):
    asked = json.loads(line)
    os.write(sys.stdout.fileno(), json.dumps({"id": asked["id"]} | answer(asked)).encode() + b"\n")


with ThreadPoolExecutor() as threads:
    for line in sys.stdin:
        threads.submit(serve, line)
