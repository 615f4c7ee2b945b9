"""Calls boto3 for whoever writes requests to stdin, one JSON object per line, and answers on stdout.

test/e2e/sdk/driver.mjs describes requests and answers. Endpoints, keys and region come from the
environment, as for any program that uses boto3; a request's config overrides them for one call.
"""

import functools
import json
import sys

import boto3
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError


@functools.cache
def client_of(service, config):
    config = json.loads(config)
    keys = config.get("credentials", {})
    return boto3.client(
        service, endpoint_url=config.get("endpoint"), region_name=config.get("region"),
        aws_access_key_id=keys.get("accessKeyId"), aws_secret_access_key=keys.get("secretAccessKey"))


def call(request):
    client = client_of(request["service"], json.dumps(request.get("config", {})))
    method, parameters = xform_name(request["command"]), request["input"]
    if "pageSize" in request:
        pages = client.get_paginator(method).paginate(**parameters, PaginationConfig={"PageSize": request["pageSize"]})
        return {"pages": list(pages)}
    return getattr(client, method)(**parameters)


def answer(request):
    try:
        return {"output": call(request)}
    except ClientError as error:
        told, status = error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        return {"error": {"name": told["Code"], "message": told["Message"], "status": status}}
    except ParamValidationError as error:  # boto3 did not even send it
        return {"error": {"name": "ParamValidationError", "message": str(error), "status": 0}}
    except (BotoCoreError, ValueError) as error:
        return {"error": {"name": type(error).__name__, "message": str(error), "status": -1}}


for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps({"id": asked["id"]} | answer(asked), default=lambda time: time.isoformat()), flush=True)
