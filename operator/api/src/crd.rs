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

#[cfg(test)]
mod tests {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};

    use super::*;

    /// Every rule, with the names of the field that it is at and of those below.
    fn rules<'a>(name: &'a str, schema: &'a JSONSchemaProps) -> Vec<(Vec<&'a str>, &'a ValidationRule)> {
        let below: Vec<(&str, &JSONSchemaProps)> =
            schema.properties.iter().flatten().map(|(name, schema)| (name.as_str(), schema)).collect();
        let items = match &schema.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => Some((name, items.as_ref())),
            Some(JSONSchemaPropsOrArray::Schemas(_)) | None => None,
        };
        let names: Vec<&str> = std::iter::once(name).chain(below.iter().map(|(name, _)| *name)).collect();
        let own = schema.x_kubernetes_validations.iter().flatten().map(|rule| (names.clone(), rule));
        own.chain(below.iter().copied().chain(items).flat_map(|(name, schema)| rules(name, schema))).collect()
    }

    #[test]
    fn every_sentence_names_the_field_and_the_fix() {
        let crd = crd();
        let schema = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let rules = rules("metadata", schema);
        assert!(rules.len() > 20, "{}", rules.len());
        for (names, rule) in rules {
            let message = rule.message.as_deref().unwrap();
            assert!(names.iter().any(|name| message.contains(name)), "`{message}` names none of {names:?}");
            let fixes = ["set ", "write ", "use ", "remove ", "begin "];
            let (_, fix) = message.split_once([':', ';']).unwrap_or_default();
            assert!(fixes.iter().any(|verb| fix.contains(verb)), "`{message}` says nothing that helps");
        }
    }
}
