#include "textflag.h"

// func rawVfork(nr, a, b uint64) (r uint64)
//
// The child goes on first, on this very stack. The return address is in a register, which the kernel keeps.
TEXT ·rawVfork(SB), NOSPLIT|NOFRAME, $0-32
	MOVD	nr+0(FP), R8
	MOVD	a+8(FP), R0
	MOVD	b+16(FP), R1
	SVC
	MOVD	R0, r+24(FP)
	RET
