//go:build linux

package linux

import (
	"encoding/binary"
	"fmt"
	"os"
)

// formatExt4 writes an empty ext4 file system without a journal, whose root is
// world-writable and sticky, into a file that reads as zeros, and sets its
// size. size is the space for data. Only what is not zero is written: about
// 8 KiB per 128 MiB.
func formatExt4(f *os.File, size int64) error {
	const (
		block         = 4096
		perGroup      = 8 * block // blocks that one bitmap block covers
		inodeSize     = 256
		inodesPerGrp  = 8192 // one for 16 KiB
		tableBlocks   = inodesPerGrp * inodeSize / block
		groupOverhead = 2 + tableBlocks // two bitmaps and the inode table
		descriptor    = 32
		firstInode    = 11
		rootInode     = 2
	)
	le := binary.LittleEndian
	data := (size + block - 1) / block
	groups := int64(1)
	var descBlocks, blocks int64
	for {
		descBlocks = (groups*descriptor + block - 1) / block
		blocks = 1 + descBlocks + groups*groupOverhead + data + 1 // the root directory
		blocks += min(blocks/49+1, 4096)                          // the kernel keeps 2 %, at most 4096 blocks, to itself
		need := (blocks + perGroup - 1) / perGroup
		if need <= groups {
			break
		}
		groups = need
	}
	// A last group too small for its own tables would be no use.
	if last := blocks - (groups-1)*perGroup; last < groupOverhead+16 {
		blocks += groupOverhead + 16 - last
	}
	if blocks > 1<<31 {
		return fmt.Errorf("%d bytes are too many", size)
	}
	if err := f.Truncate(blocks * block); err != nil {
		return err
	}

	var free, freeInodes int64
	desc := make([]byte, descBlocks*block)
	rootBlock := 1 + descBlocks + groupOverhead
	for g := range groups {
		start := g * perGroup
		length := min(perGroup, blocks-start)
		first := start // of the group's tables
		used := int64(groupOverhead)
		usedInodes := 0
		if g == 0 {
			first = 1 + descBlocks
			used += 1 + descBlocks + 1
			usedInodes = firstInode - 1
		}
		bitmaps := make([]byte, 2*block)
		for i := range used {
			bitmaps[i/8] |= 1 << (i % 8)
		}
		for i := length; i < perGroup; i++ {
			bitmaps[i/8] |= 1 << (i % 8)
		}
		inodes := bitmaps[block:]
		for i := range usedInodes {
			inodes[i/8] |= 1 << (i % 8)
		}
		for i := inodesPerGrp / 8; i < block; i++ {
			inodes[i] = 0xff
		}
		if _, err := f.WriteAt(bitmaps, first*block); err != nil {
			return err
		}
		d := desc[g*descriptor:]
		le.PutUint32(d[0:], uint32(first))
		le.PutUint32(d[4:], uint32(first+1))
		le.PutUint32(d[8:], uint32(first+2))
		le.PutUint16(d[12:], uint16(length-used))
		le.PutUint16(d[14:], uint16(inodesPerGrp-usedInodes))
		if g == 0 {
			le.PutUint16(d[16:], 1) // directories
		}
		free += length - used
		freeInodes += inodesPerGrp - int64(usedInodes)
	}

	sb := make([]byte, block) // the superblock begins at byte 1024 of block 0
	s := sb[1024:]
	le.PutUint32(s[0x00:], uint32(inodesPerGrp*groups))
	le.PutUint32(s[0x04:], uint32(blocks))
	le.PutUint32(s[0x0c:], uint32(free))
	le.PutUint32(s[0x10:], uint32(freeInodes))
	le.PutUint32(s[0x18:], 2) // block size 1024 << 2
	le.PutUint32(s[0x1c:], 2) // cluster size, the same
	le.PutUint32(s[0x20:], perGroup)
	le.PutUint32(s[0x24:], perGroup)
	le.PutUint32(s[0x28:], inodesPerGrp)
	le.PutUint16(s[0x36:], 0xffff) // mounts until a check: never
	le.PutUint16(s[0x38:], 0xef53) // magic
	le.PutUint16(s[0x3a:], 1)      // clean
	le.PutUint16(s[0x3c:], 1)      // on errors continue
	le.PutUint32(s[0x4c:], 1)      // revision with dynamic inode size
	le.PutUint32(s[0x54:], firstInode)
	le.PutUint16(s[0x58:], inodeSize)
	const (
		sparseSuper2 = 0x200    // compatible: backups only where s_backup_bgs says, nowhere
		filetype     = 0x2      // incompatible
		extents      = 0x40     // incompatible
		largeFile    = 0x2      // read-only compatible
		hugeFile     = 0x8      // read-only compatible
		dirNlink     = 0x20     // read-only compatible
		extraIsize   = 0x40     // read-only compatible
		extentsFlag  = 0x80000  // of an inode
		stickyDir    = 0o041777 // mode
		extentMagic  = 0xf30a   // of an extent tree's node
		hashSigned   = 0x1      // any: no directory is indexed
	)
	le.PutUint32(s[0x5c:], sparseSuper2)
	le.PutUint32(s[0x60:], filetype|extents)
	le.PutUint32(s[0x64:], largeFile|hugeFile|dirNlink|extraIsize)
	le.PutUint16(s[0x15c:], 32) // extra inode size wanted
	le.PutUint16(s[0x15e:], 32)
	le.PutUint32(s[0x160:], hashSigned)

	inode := make([]byte, inodeSize)
	le.PutUint16(inode[0x00:], stickyDir)
	le.PutUint32(inode[0x04:], block) // size
	le.PutUint16(inode[0x1a:], 2)     // links
	le.PutUint32(inode[0x1c:], block/512)
	le.PutUint32(inode[0x20:], extentsFlag)
	e := inode[0x28:]
	le.PutUint16(e[0:], extentMagic)
	le.PutUint16(e[2:], 1) // entries
	le.PutUint16(e[4:], 4) // room for
	le.PutUint16(e[16:], 1)
	le.PutUint32(e[20:], uint32(rootBlock))
	le.PutUint16(inode[0x80:], 32)

	dir := make([]byte, block)
	entry := func(b []byte, length int, name string) {
		le.PutUint32(b[0:], rootInode)
		le.PutUint16(b[4:], uint16(length))
		b[6] = byte(len(name))
		b[7] = 2 // a directory
		copy(b[8:], name)
	}
	entry(dir, 12, ".")
	entry(dir[12:], block-12, "..")

	table := int64(1+descBlocks+2) * block
	for _, w := range []struct {
		b  []byte
		at int64
	}{{sb, 0}, {desc, block}, {inode, table + inodeSize*(rootInode-1)}, {dir, rootBlock * block}} {
		if _, err := f.WriteAt(w.b, w.at); err != nil {
			return err
		}
	}
	return nil
}
