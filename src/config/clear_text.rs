//! Refuses to send the token in clear text, unless the configuration allows it.

use serde_json::Value;

use super::check::{Check, Problem};
use super::tree::Node;
use crate::provider::proxy::is_clear_text;

const URLS: [&str; 2] = ["provider.base_url", "provider.auth.oauth2.token_url"];

const NO_TLS: &str = "is http:// beyond this machine, so anyone on the network path can read the token and the users' \
                      data; write https://, or set provider.insecure = true if the network is trusted";

impl Check<'_> {
    pub fn clear_text(&mut self, tree: &Node) {
        if tree.get("provider.insecure").map(Node::to_json) == Some(Value::Bool(true)) {
            return;
        }
        for key in URLS {
            if let Some(node) = tree.get(key)
                && node.to_json().as_str().is_some_and(is_clear_text)
            {
                let problem = Problem::new(node.place.clone(), key, NO_TLS);
                self.problems.push(problem);
            }
        }
    }
}
