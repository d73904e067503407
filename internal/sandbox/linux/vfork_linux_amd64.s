#include "textflag.h"

// func rawVfork(nr, a, b uint64) (r uint64)
//
// The child goes on first, on this very stack, and its calls overwrite the return address, which therefore waits in a
// register that the kernel keeps.
TEXT ·rawVfork(SB), NOSPLIT|NOFRAME, $0-32
	MOVQ	nr+0(FP), AX
	MOVQ	a+8(FP), DI
	MOVQ	b+16(FP), SI
	POPQ	R12
	SYSCALL
	PUSHQ	R12
	MOVQ	AX, r+24(FP)
	RET
