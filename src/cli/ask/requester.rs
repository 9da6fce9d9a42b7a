//! Creates a request as the caller. Newer API servers fill in who asks. Where one demands it of the client, the request is made again with
//! who the API server says the caller is; so nothing is asked of a server that fills it in.

use kube::api::PostParams;
use kube::{Api, Client};

use crate::api::DeploymentRequest;
use crate::cli::connection;

/// How the policy `pilotage-request-create` refuses a request that does not say who asks.
const NOT_FILLED_IN: &str = "spec.requestedBy is not you";

/// Creates it.
///
/// # Errors
/// If the API server refuses it, or does not say who the caller is.
pub(super) async fn create(client: &Client, host: &str, request: &mut DeploymentRequest) -> anyhow::Result<DeploymentRequest> {
    let requests = Api::<DeploymentRequest>::namespaced(client.clone(), host);
    match requests.create(&PostParams::default(), request).await {
        Err(kube::Error::Api(status)) if request.spec.requested_by.is_none() && status.message.contains(NOT_FILLED_IN) => {
            request.spec.requested_by = Some(connection::caller(client).await?);
            Ok(requests.create(&PostParams::default(), request).await?)
        }
        made => Ok(made?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_says_nobody_is_known_by_how_it_is_refused() {
        assert!(include_str!("../../../deploy/admission/request-create.yaml").contains(NOT_FILLED_IN));
    }
}
