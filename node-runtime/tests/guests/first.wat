;; The ABI of February 2022: the function is called `handler`, and values are in slots of 8 bytes.
(module
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 4096))
  ;; Status 200, no headers, a body of 5 bytes at 512.
  (data (i32.const 1000) "\c8\00\00\00\00\00\00\00")
  (data (i32.const 1032) "\01\00\00\00\00\00\00\00\00\02\00\00\00\00\00\00\05\00\00\00")
  (data (i32.const 512) "hello")
  (func (export "canonical_abi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get 3)) (i32.const 7)) (i32.const -8)))
    (local.get $at))
  (func (export "handler") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (i32.const 1000)))
