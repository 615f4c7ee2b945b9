//! JSON to the SDK's types and back. The SDK has neither, so that every type is spelled out once,
//! with its members: `structure!`, `output_only!`, `union!` and `strings!` make both directions.

use std::collections::HashMap;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde_json::{Map, Value};

/// Makes a value from JSON; the error says what the SDK's types cannot express.
pub trait FromJson: Sized {
    fn from_json(value: &Value) -> Result<Self, String>;
}

pub trait ToJson {
    fn to_json(&self) -> Value;
}

/// The members of a JSON object, to be taken by the name of the SDK's field.
pub struct Members<'a>(HashMap<String, &'a Value>);

impl<'a> Members<'a> {
    pub fn of(value: &'a Value) -> Self {
        let members = value.as_object().into_iter().flatten();
        Members(members.map(|(name, member)| (plain(name), member)).collect())
    }

    pub fn take<T: FromJson>(&mut self, field: &str) -> Result<Option<T>, String> {
        self.0.remove(&plain(field)).map(T::from_json).transpose()
    }

    /// Nothing may be left that the SDK was not told.
    pub fn end(self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(name) => Err(format!("there is no member {name}")),
            None => Ok(()),
        }
    }
}

/// What the name of a member and that of its field have in common.
fn plain(name: &str) -> String {
    name.to_lowercase().replace('_', "")
}

/// The member of a field in JSON: `image_arn` is `imageArn`.
pub fn camel(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    let name = first + &words.map(capital).collect::<String>();
    name.replace("Mib", "MiB")
}

/// The same for services whose members begin with a capital.
pub fn pascal(field: &str) -> String {
    field.split('_').map(capital).collect()
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

/// Writes a member unless it is absent.
pub fn put(object: &mut Map<String, Value>, name: String, value: Value) {
    if !value.is_null() {
        object.insert(name, value);
    }
}

impl FromJson for String {
    fn from_json(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| format!("{value} is no string"))
    }
}

impl FromJson for i32 {
    fn from_json(value: &Value) -> Result<Self, String> {
        value
            .as_i64()
            .and_then(|n| n.try_into().ok())
            .ok_or_else(|| format!("{value} is no i32"))
    }
}

impl FromJson for bool {
    fn from_json(value: &Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| format!("{value} is no bool"))
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(value: &Value) -> Result<Self, String> {
        value
            .as_array()
            .ok_or_else(|| format!("{value} is no list"))?
            .iter()
            .map(T::from_json)
            .collect()
    }
}

impl<T: FromJson> FromJson for HashMap<String, T> {
    fn from_json(value: &Value) -> Result<Self, String> {
        let members = value.as_object().ok_or_else(|| format!("{value} is no map"))?;
        members.iter().map(|(key, value)| Ok((key.clone(), T::from_json(value)?))).collect()
    }
}

macro_rules! plain_values {
    ($($type:ty),*) => { $(
        impl ToJson for $type {
            fn to_json(&self) -> Value {
                self.clone().into()
            }
        }
    )* };
}

plain_values!(String, i32, i64, bool);

impl ToJson for DateTime {
    fn to_json(&self) -> Value {
        self.fmt(Format::DateTime).ok().into()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_json)
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        self.iter().map(T::to_json).collect()
    }
}

impl<T: ToJson> ToJson for HashMap<String, T> {
    fn to_json(&self) -> Value {
        self.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()
    }
}

/// Enumerations are strings; the SDK takes unknown ones too.
macro_rules! strings {
    ($($type:ident),* $(,)?) => { $(
        impl FromJson for $type {
            fn from_json(value: &Value) -> Result<Self, String> {
                Ok($type::from(String::from_json(value)?.as_str()))
            }
        }
        impl ToJson for $type {
            fn to_json(&self) -> Value {
                self.as_str().into()
            }
        }
    )* };
}
pub(crate) use strings;

/// Structures that only come as output. The first word says how members are named.
macro_rules! output_only {
    ($naming:ident: $($type:ident { $($field:ident),* })*) => { $(
        impl ToJson for $type {
            fn to_json(&self) -> Value {
                #[allow(unused_mut)]
                let mut object = Map::new();
                $( put(&mut object, $naming(stringify!($field).trim_start_matches("r#")), self.$field.to_json()); )*
                object.into()
            }
        }
    )* };
}
pub(crate) use output_only;

/// Structures in both directions. `built` says how a builder ends: `whole` if it can lack a member.
macro_rules! structure {
    (@end whole $builder:expr) => { $builder.build().map_err(|error| error.to_string()) };
    (@end any $builder:expr) => { Ok($builder.build()) };
    ($naming:ident $built:ident: $($type:ident { $($field:ident),* })*) => {
        output_only!($naming: $($type { $($field),* })*);
        $( pastey::paste! {
            impl FromJson for $type {
                fn from_json(value: &Value) -> Result<Self, String> {
                    #[allow(unused_mut)]
                    let mut members = Members::of(value);
                    let builder = $type::builder();
                    $( let builder = builder.[<set_ $field>](members.take(stringify!($field))?); )*
                    members.end()?;
                    structure!(@end $built builder)
                }
            }
        } )*
    };
}
pub(crate) use structure;

/// Unions: an object with one member.
macro_rules! union {
    ($($type:ident { $($variant:ident $name:literal),* })*) => { $(
        impl FromJson for $type {
            fn from_json(value: &Value) -> Result<Self, String> {
                match value.as_object().and_then(|object| object.iter().next()) {
                    $( Some((name, value)) if name == $name => Ok($type::$variant(FromJson::from_json(value)?)), )*
                    _ => Err(format!("{value} is no {}", stringify!($type))),
                }
            }
        }
        impl ToJson for $type {
            fn to_json(&self) -> Value {
                match self {
                    $( $type::$variant(value) => serde_json::json!({$name: value.to_json()}), )*
                    _ => serde_json::json!({"$unknown": true}),
                }
            }
        }
    )* };
}
pub(crate) use union;
