"""Takes examples/counter all the way: zip, S3, image, snapshot, two microVMs, suspend, wake.

Every AWS call is made by an unmodified AWS client that finds Dormouse through AWS_ENDPOINT_URL_*.
"""

import argparse
import json
import os
import secrets
import signal
import sys
import time
import zipfile
from pathlib import Path

from aws import choose_client
from daemon import Daemon, fresh_data_dir
from endpoint import Endpoint, curl
from report import Report

ROOT = Path(__file__).resolve().parent.parent
APP = ROOT / "examples" / "counter"
DEFAULT_DATA_DIR = ROOT / "data" / "demo"

BASE_IMAGE = "arn:aws:lambda:{region}:aws:microvm-image:al2023-1"
BUILD_ROLE = "arn:aws:iam::000000000000:role/demo"
IDLE_POLICY = {"maxIdleDurationSeconds": 900, "suspendedDurationSeconds": 28800, "autoResumeEnabled": True}
HOOKS = {
    "port": 9000,
    "microvmImageHooks": {
        "ready": "ENABLED", "readyTimeoutInSeconds": 120,
        "validate": "ENABLED", "validateTimeoutInSeconds": 120,
    },
    "microvmHooks": {
        "run": "ENABLED", "runTimeoutInSeconds": 30, "resume": "ENABLED", "resumeTimeoutInSeconds": 30,
        "suspend": "ENABLED", "suspendTimeoutInSeconds": 30, "terminate": "ENABLED", "terminateTimeoutInSeconds": 30,
    },
}
BUILD_LIMIT = 15 * 60  # seconds
STATE_LIMIT = 120  # seconds
CLOCK_TOLERANCE = 0.5  # seconds between the clocks of guest and host


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` stops the daemon
    report = Report()
    client = choose_client(report)
    fresh_data_dir(options.data_dir, default=DEFAULT_DATA_DIR, keep=options.keep)
    daemon = Daemon(ROOT / "bin" / "dormouse", options.data_dir, report)
    try:
        report.step("Start the daemon")
        client.env = daemon.start()
        Demo(client, daemon, report).run()
    finally:
        daemon.stop()
        if options.clean:
            daemon.remove_data()
    report.check("no process is left behind", daemon.leftovers() == [])
    report.table()
    return report.verdict()


def parse_options():
    parser = argparse.ArgumentParser(prog="demo/run.sh", description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="the daemon's data folder (./data/demo, made afresh)")
    parser.add_argument("--keep", action="store_true", help="go on with ./data/demo as an earlier demo left it")
    parser.add_argument("--clean", action="store_true", help="remove the data folder at the end")
    options = parser.parse_args()
    options.data_dir = (options.data_dir or DEFAULT_DATA_DIR).resolve()
    return options


class Demo:
    def __init__(self, client, daemon, report):
        self.aws, self.daemon, self.report = client, daemon, report
        self.name = "counter-" + secrets.token_hex(3)

    def run(self):
        self.upload()
        image = self.build()
        first, second = self.launch(image, "first"), self.launch(image, "second")
        self.compare(first, second)
        self.suspend_and_wake(first)
        self.terminate(second)

    def upload(self):
        self.report.step("Zip the app and copy it to S3")
        archive = self.daemon.data_dir / "demo" / "code.zip"
        archive.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as code:
            for file in sorted(APP.iterdir()):
                code.write(file, file.name)
        self.aws.make_bucket(self.name)
        self.aws.upload(archive, f"s3://{self.name}/code.zip")

    def build(self):
        self.report.step("Build the image: its Dockerfile runs inside a microVM, then the app is snapshotted")
        image = self.aws.call(
            "create-microvm-image", name=self.name, base_image_arn=BASE_IMAGE.format(region=self.aws.env["AWS_REGION"]),
            build_role_arn=BUILD_ROLE, code_artifact={"uri": f"s3://{self.name}/code.zip"},
            resources=[{"minimumMemoryInMiB": 512}], hooks=HOOKS)
        arn, version = image["imageArn"], image["imageVersion"]
        builds = self.aws.call("list-microvm-image-builds", image_identifier=arn, image_version=version)
        build = builds["items"][0]["buildId"]
        self.daemon.follow_build_log(build, BUILD_LIMIT)
        state = self.wait("get-microvm-image", {"image_identifier": arn}, while_in=["CREATING"])
        self.report.check("the image is CREATED", state == "CREATED", state)
        if state != "CREATED":
            result = self.aws.call("get-microvm-image-build", image_identifier=arn, image_version=version, build_id=build)
            self.report.fatal(f"the build failed: {result.get('stateReason')}")
        phases = self.record(arn, "build", "build")
        self.report.measured("snapshot (of it)", phases.get("snapshot", 0))
        return arn

    def launch(self, image, name):
        self.report.step(f"Launch the {name} microVM from the snapshot")
        vm = self.aws.call(
            "run-microvm", image_identifier=image, idle_policy=IDLE_POLICY,
            run_hook_payload=json.dumps({"name": name}))["microvmId"]
        state = self.wait("get-microvm", {"microvm_identifier": vm}, while_in=["PENDING"])
        self.report.check("it is RUNNING", state == "RUNNING", state)
        endpoint = self.open_endpoint(vm)
        answer = endpoint.get("/")
        self.report.check("it answers over HTTPS with its token", answer.status == 200, answer)
        self.record(vm, "launch", f"launch, {name}")
        self.report.measured(f"first byte, {name}", answer.seconds)
        curl(self.report, endpoint, "/identity")
        return endpoint

    def open_endpoint(self, vm):
        host = self.aws.call("get-microvm", microvm_identifier=vm)["endpoint"]
        token = self.aws.call(
            "create-microvm-auth-token", microvm_identifier=vm, expiration_in_minutes=30,
            allowed_ports=[{"port": 8080}])["authToken"]["X-aws-proxy-auth"]
        return Endpoint(vm, host, token, self.aws.env["DORMOUSE_CA_BUNDLE"])

    def compare(self, first, second):
        self.report.step("Two microVMs of one image share nothing")
        check = self.report.check
        randoms = [vm.json("/random")["random"] for vm in (first, second)]
        check("their random numbers differ", randoms[0] != randoms[1], randoms)
        identities = [vm.json("/identity") for vm in (first, second)]
        for member in ("hostname", "machineId", "microvmId", "runHookPayload"):
            values = [identity[member] for identity in identities]
            check(f"each has its own {member}", None not in values and values[0] != values[1], values)
        check("each was told its own id by the run hook", [i["microvmId"] for i in identities] == [first.vm, second.vm])

        before = second.json("/")["counter"]
        first.post("/nonce")
        first.post("/file", b"written by the first")
        for _ in range(3):
            first.get("/")
        after = second.json("/")
        check("counting in the first leaves the second alone", after["counter"] == before + 1, after)
        check("a nonce made in the first is not in the second", after["nonce"] is None, after)
        check("a file written in the first is not in the second", second.get("/file").body == b"")

    def suspend_and_wake(self, vm):
        self.report.step("Suspend the first microVM: its memory goes to disk, its process ends")
        vm.post("/pipe", b"bytes in a pipe")
        before = vm.json("/")
        self.aws.call("suspend-microvm", microvm_identifier=vm.vm)
        state = self.wait("get-microvm", {"microvm_identifier": vm.vm}, while_in=["RUNNING", "SUSPENDING"])
        self.report.check("it is SUSPENDED", state == "SUSPENDED", state)
        self.record(vm.vm, "suspend", "suspend")

        self.report.step("Wake it with a request: everything is still in memory")
        check = self.report.check
        asked = time.time()
        answer = vm.get("/time")
        answered = time.time()
        check("the request that wakes it is answered", answer.status == 200, answer)
        guest = json.loads(answer.body)["time"]
        check("its wall clock is right in that first answer",
              asked - CLOCK_TOLERANCE <= guest <= answered + CLOCK_TOLERANCE, f"{guest - asked:+.3f} s")
        self.record(vm.vm, "resume", "wake")
        self.report.measured("first byte, wake", answer.seconds)

        after = vm.json("/")
        check("the nonce that only RAM knew is there: a wake, not a reboot",
              after["nonce"] is not None and after["nonce"] == before["nonce"], after)
        check("the counter goes on", after["counter"] == before["counter"] + 1, after)
        check("the bytes are still in the pipe", vm.get("/pipe").body == b"bytes in a pipe")
        check("the file is on its disk", vm.get("/file").body == b"written by the first\n")
        time.sleep(2.5)
        later = vm.json("/")["ticks"]
        check("the thread ticks on", before["ticks"] <= after["ticks"] < later, [before["ticks"], after["ticks"], later])
        hooks = vm.json("/hooks")
        check("run, suspend and resume hooks were called once each",
              [hooks[name] for name in ("run", "suspend", "resume")] == [1, 1, 1], hooks)

    def terminate(self, vm):
        self.report.step("Terminate the second microVM")
        self.aws.call("terminate-microvm", microvm_identifier=vm.vm)
        state = self.wait("get-microvm", {"microvm_identifier": vm.vm}, while_in=["RUNNING", "TERMINATING"])
        self.report.check("it is TERMINATED", state == "TERMINATED", state)
        self.report.check("its endpoint no longer answers", vm.get("/").status != 200)

    def wait(self, operation, target, while_in):
        """Asks until the state is none of while_in, and returns it."""
        deadline = time.monotonic() + STATE_LIMIT
        show = True
        while True:
            state = self.aws.call(operation, show=show, **target)["state"]
            if state not in while_in or time.monotonic() > deadline:
                return state
            show = False
            time.sleep(0.5)

    def record(self, subject, operation, name):
        """Puts an operation's phases, as the daemon measured them, into the table."""
        phases = self.daemon.phases(subject, operation)
        self.report.check(f"the daemon tells how long each phase of the {operation} took", bool(phases))
        self.report.measured(name, sum(phases.values()), phases)
        return phases


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
