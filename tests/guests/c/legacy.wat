;; The smallest guest of the legacy Spin HTTP ABI (canonical layout): answers every request with
;; status 200, header `content-type: text/plain` and "Hello from WAT\n".
(module
  (memory (export "memory") 1)

  ;; 0: the result: status u16, headers tag @4 list @8, body tag @16 list @20
  (data (i32.const 0)
    "\c8\00\00\00" "\01\00\00\00" "\20\00\00\00" "\01\00\00\00"
    "\01\00\00\00" "\4a\00\00\00" "\0f\00\00\00")
  ;; 32: one header: name pointer and length, value pointer and length
  (data (i32.const 32) "\30\00\00\00" "\0c\00\00\00" "\40\00\00\00" "\0a\00\00\00")
  (data (i32.const 48) "content-type")
  (data (i32.const 64) "text/plain")
  (data (i32.const 74) "Hello from WAT\n")

  ;; A bump allocator. An instance serves one request, so nothing is freed.
  (global $top (mut i32) (i32.const 4096))
  (func (export "canonical_abi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and
        (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
      (then
        (if (i32.eq
              (memory.grow (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1)))
              (i32.const -1))
          (then (unreachable)))))
    (local.get $at))
  (func (export "canonical_abi_free") (param $ptr i32) (param $size i32) (param $align i32))

  (func (export "handle-http-request")
    (param $method i32) (param $uri i32) (param $uri_len i32) (param $headers i32)
    (param $header_count i32) (param $params i32) (param $param_count i32) (param $has_body i32)
    (param $body i32) (param $body_len i32) (result i32)
    (i32.const 0)))
