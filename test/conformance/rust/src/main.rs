//! Calls the AWS SDK for Rust for whoever writes requests to stdin, one JSON object per line, and
//! answers on stdout.
//!
//! test/e2e/sdk/driver.mjs describes requests and answers. Endpoints, keys and region come from the
//! environment, as for any program that uses the SDK; a request's config overrides them for one call.

mod connectors;
mod convert;
mod microvms;
mod operation;

use std::io::{self, BufRead, Write};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_lambdamicrovms::config::Credentials;
use aws_smithy_http_client::Builder;
use serde_json::{Value, json};

use operation::{Failure, Input};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let mut answer = match call(&request).await {
            Ok(output) => json!({"output": output}),
            Err(Failure(error)) => json!({"error": error}),
        };
        answer["id"] = request["id"].clone();
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(())
}

async fn call(request: &Value) -> Result<Value, Failure> {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let config = configuration(&request["config"]).await;
    let input = Input::new(&request["input"]);
    let page_size = request["pageSize"].as_i64().map(|size| size as i32);
    match text("service") {
        "lambda-microvms" => microvms::call(&aws_sdk_lambdamicrovms::Client::new(&config), text("command"), input, page_size).await,
        "lambda-core" => connectors::call(&aws_sdk_lambdacore::Client::new(&config), text("command"), input, page_size).await,
        service => Err(Failure::unsent(format!("there is no service {service}"))),
    }
}

async fn configuration(overrides: &Value) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(Builder::new().build_http());
    if let Some(region) = overrides["region"].as_str() {
        loader = loader.region(Region::new(region.to_owned()));
    }
    if let Some(url) = overrides["endpoint"].as_str() {
        loader = loader.endpoint_url(url);
    }
    let key = &overrides["credentials"];
    if let (Some(id), Some(secret)) = (key["accessKeyId"].as_str(), key["secretAccessKey"].as_str()) {
        loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "request"));
    }
    loader.load().await
}
