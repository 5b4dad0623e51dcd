;; The ABI of the first months: results in slots of 8 bytes. The request's body is the address of a server. The answer is the
;; results of `set`, `get` and `publish`, and the first byte of what `get` found.
(module
  (import "outbound-redis" "set" (func $set (param i32 i32 i32 i32 i32 i32 i32)))
  (import "outbound-redis" "get" (func $get (param i32 i32 i32 i32 i32)))
  (import "outbound-redis" "publish" (func $publish (param i32 i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 4096))
  ;; Status 200, no headers, a body of 73 bytes at 2000.
  (data (i32.const 1000) "\c8\00\00\00\00\00\00\00")
  (data (i32.const 1032) "\01\00\00\00\00\00\00\00\d0\07\00\00\00\00\00\00\49\00\00\00")
  (data (i32.const 512) "slots-kv")
  (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
    (local.get $at))
  (func (export "handler") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    ;; What was there before must not be taken for a part of the result.
    (memory.fill (i32.const 2000) (i32.const 255) (i32.const 73))
    (call $set (local.get 8) (local.get 9) (i32.const 512) (i32.const 7) (i32.const 519) (i32.const 1) (i32.const 2000))
    (call $get (local.get 8) (local.get 9) (i32.const 512) (i32.const 7) (i32.const 2024))
    (call $publish (local.get 8) (local.get 9) (i32.const 512) (i32.const 7) (i32.const 519) (i32.const 1) (i32.const 2048))
    (if (i32.eqz (i32.load (i32.const 2024)))
      (then (i32.store8 (i32.const 2072) (i32.load8_u (i32.load (i32.const 2032))))))
    (i32.const 1000)))
