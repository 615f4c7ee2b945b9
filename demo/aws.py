"""An unmodified AWS client: the AWS CLI, or the JS SDK where no AWS CLI can be had."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dormouse"
SDK_PACKAGES = ["@aws-sdk/client-lambda-microvms", "@aws-sdk/client-s3"]


def choose_client(report):
    """The AWS CLI from PATH if it knows lambda-microvms, else from PyPI, else the JS SDK from npm."""
    print("AWS client: ", end="", flush=True)
    for find in (cli_from_path, cli_from_pypi, sdk_from_npm):
        client = find(report)
        if client:
            print(client.what, flush=True)
            return client
    report.fatal("no AWS client: neither a current AWS CLI nor PyPI nor npm can be reached")


def cli_from_path(report):
    cli = shutil.which("aws")
    return Cli([cli], "from PATH", report) if cli and knows_microvms(cli) else None


def cli_from_pypi(report):
    install = subprocess.run([HERE.parent / "setup" / "clients" / "python.sh"], capture_output=True, text=True)
    if install.returncode != 0:
        return None
    folder = Path(install.stdout.strip())
    cli = folder / "bin" / "aws"
    return Cli([str(cli)], f"from PyPI, in {folder}", report) if knows_microvms(cli) else None


def sdk_from_npm(report):
    folder = CACHE / "aws-sdk-js"
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        return None
    if not all((folder / "node_modules" / package).exists() for package in SDK_PACKAGES):
        folder.mkdir(parents=True, exist_ok=True)
        install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *SDK_PACKAGES]
        if subprocess.run(install, capture_output=True).returncode != 0:
            return None
    return Sdk(node, folder, report)


def knows_microvms(cli):
    """A command's skeleton needs no network and no credentials."""
    try:
        check = [cli, "lambda-microvms", "list-microvms", "--generate-cli-skeleton"]
        return subprocess.run(check, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class Client:
    """Subclasses say how an operation, a bucket and an upload become a command line."""

    def __init__(self, what, report):
        self.what, self.report = what, report
        self.env = None  # what `dormouse env` made of the environment

    def run(self, command, shown):
        if shown:
            self.report.line(shown)
        done = subprocess.run(command, env=self.env, capture_output=True, text=True)
        if done.returncode != 0:
            self.report.fatal(f"{shlex.join(map(str, command))}\n{done.stderr.strip()}")
        return done.stdout


class Cli(Client):
    def __init__(self, cli, where, report):
        version = subprocess.run([*cli, "--version"], capture_output=True, text=True).stdout.split()[0]
        super().__init__(f"{version} {where}", report)
        self.cli = cli

    def call(self, operation, show=True, **parameters):
        arguments = ["lambda-microvms", operation]
        for name, value in parameters.items():
            arguments += ["--" + name.replace("_", "-"), value if isinstance(value, str) else json.dumps(value)]
        shown = f"$ aws {shlex.join(arguments)}" if show else None
        return json.loads(self.run([*self.cli, *arguments, "--output", "json"], shown) or "{}")

    def make_bucket(self, name):
        self.run([*self.cli, "s3", "mb", f"s3://{name}"], f"$ aws s3 mb s3://{name}")

    def upload(self, file, uri):
        self.run([*self.cli, "s3", "cp", "--no-progress", str(file), uri], f"$ aws s3 cp {file.name} {uri}")


class Sdk(Client):
    def __init__(self, node, folder, report):
        with open(folder / "node_modules" / SDK_PACKAGES[0] / "package.json") as file:
            version = json.load(file)["version"]
        super().__init__(f"AWS SDK for JavaScript {version} from npm, in {folder}", report)
        self.node, self.folder = node, folder

    def call(self, operation, show=True, **parameters):
        name = "".join(word.capitalize() for word in operation.split("-"))
        return self.send(SDK_PACKAGES[0], name, {camel(key): value for key, value in parameters.items()}, show)

    def make_bucket(self, name):
        self.send(SDK_PACKAGES[1], "CreateBucket", {"Bucket": name})

    def upload(self, file, uri):
        bucket, key = uri.removeprefix("s3://").split("/", 1)
        self.send(SDK_PACKAGES[1], "PutObject", {"Bucket": bucket, "Key": key}, file=file)

    def send(self, package, name, parameters, show=True, file=None):
        command = [self.node, HERE / "sdk.mjs", self.folder, package, name, json.dumps(parameters), *([file] if file else [])]
        shown = f"> {name}Command({json.dumps(parameters)})" if show else None
        return json.loads(self.run(command, shown))


def camel(name):
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)
