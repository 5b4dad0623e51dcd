;; A legacy guest: whatever it is asked, it asks its own application for /again, and answers with the status that came back, or with 400
;; and the kind of the failure.
(module
  (import "wasi-outbound-http" "request" (func $request (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 4)
  (global $next (mut i32) (i32.const 4096))
  (data (i32.const 512) "/again")
  (func (export "canonical_abi_free") (param i32 i32 i32))
  (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
    (local.get $at))
  (func (export "handle-http-request") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (call $request (i32.const 0) (i32.const 512) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2000))
    (if (i32.load8_u (i32.const 2000))
      (then (i32.store16 (i32.const 1000) (i32.add (i32.const 400) (i32.load8_u (i32.const 2004)))))
      (else (i32.store16 (i32.const 1000) (i32.load16_u (i32.const 2004)))))
    ;; The canonical layout: a body that is there, and empty.
    (i32.store8 (i32.const 1016) (i32.const 1))
    (i32.store (i32.const 1020) (i32.const 1))
    (i32.const 1000)))
