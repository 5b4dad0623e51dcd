//! The CustomResourceDefinition, complete with the rules that the derive cannot express.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, ValidationRule};
use kube_core::CustomResourceExt as _;

use crate::spinapp::SpinApp;

/// The CRD of [`SpinApp`], as it is installed.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = SpinApp::crd();
    for version in &mut crd.spec.versions {
        let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        if let Some(schema) = schema {
            schema.x_kubernetes_validations = Some(root_rules());
        }
    }
    crd
}

/// Rules about the object's own name, which no field's schema can hold: the app's Service has the same name.
fn root_rules() -> Vec<ValidationRule> {
    vec![ValidationRule {
        rule: "size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')".to_owned(),
        message: Some(
            "metadata.name cannot be the name of a Service, which the app gets: use at most 63 lower-case letters, digits and `-`, starting with a letter and not ending with `-`"
                .to_owned(),
        ),
        ..ValidationRule::default()
    }]
}
