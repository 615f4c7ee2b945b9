//! How operations are called: `operations!` makes a function that calls each by its name.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use serde_json::{Value, json};

use crate::convert::Members;

pub type Input<'a> = Members<'a>;

impl<'a> Input<'a> {
    pub fn new(value: &'a Value) -> Self {
        Members::of(value)
    }
}

/// An error as the judge reads it: name, message and HTTP status.
pub struct Failure(pub Value);

impl Failure {
    /// Of what the SDK did not even send.
    pub fn unsent(message: String) -> Self {
        Failure(json!({"name": "Inexpressible", "message": message, "status": 0}))
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure::unsent(message)
    }
}

impl<E: ProvideErrorMetadata + std::error::Error + 'static> From<SdkError<E, HttpResponse>> for Failure {
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        if let SdkError::ConstructionFailure(_) = error {
            return Failure::unsent(DisplayErrorContext(&error).to_string());
        }
        let status = error.raw_response().map_or(-1, |response| response.status().as_u16().into());
        Failure(json!({
            "name": error.code().unwrap_or("Unknown"),
            "message": error.message().map_or_else(|| DisplayErrorContext(&error).to_string(), str::to_owned),
            "status": status,
        }))
    }
}

/// Each row is an operation with the members of its input and output: NAME function { … } -> naming { … }.
/// Those whose output comes in pages are apart.
macro_rules! operations {
    (
        $client:ident
        alone { $( $name:ident $function:ident { $($input:ident),* } -> $naming:ident { $($output:ident),* }; )* }
        paged { $( $list:ident $list_function:ident { $($list_input:ident),* } -> $list_naming:ident { $($list_output:ident),* }; )* }
    ) => { pastey::paste! {
        pub async fn call(client: &$client, command: &str, mut input: Input<'_>, page_size: Option<i32>) -> Result<Value, Failure> {
            match command {
                $( stringify!($name) => {
                    let call = client.$function();
                    $( let call = call.[<set_ $input>](input.take(stringify!($input))?); )*
                    input.end()?;
                    #[allow(unused_variables)]
                    let output = call.send().await?;
                    #[allow(unused_mut)]
                    let mut object = Map::new();
                    $( put(&mut object, $naming(stringify!($output)), output.$output.to_json()); )*
                    Ok(object.into())
                } )*
                $( stringify!($list) => {
                    let call = client.$list_function();
                    $( let call = call.[<set_ $list_input>](input.take(stringify!($list_input))?); )*
                    input.end()?;
                    let page = |output: [<$list Output>]| {
                        let mut object = Map::new();
                        $( put(&mut object, $list_naming(stringify!($list_output)), output.$list_output.to_json()); )*
                        Value::from(object)
                    };
                    let Some(size) = page_size else {
                        return Ok(page(call.send().await?));
                    };
                    let mut stream = call.into_paginator().page_size(size).send();
                    let mut pages = Vec::new();
                    while let Some(output) = stream.next().await {
                        pages.push(page(output?));
                    }
                    Ok(serde_json::json!({"pages": pages}))
                } )*
                _ => Err(Failure::unsent(format!("there is no operation {command}"))),
            }
        }
    } };
}
pub(crate) use operations;
