//! The SpinApp API: types, validation rules, condition reasons.
